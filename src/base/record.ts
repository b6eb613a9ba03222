/**
 * Records: typed state in shared memory.
 *
 * A device declares its state once; the declaration gives typed accessors, the snapshot schema (kind, version, field names and
 * types), the power-on values (all zero unless `reset` says otherwise) and the fuzzer's map. Position never carries meaning
 * outside one version of one kind.
 */
import { Bug, RestoreError } from "./errors.ts";

export type ScalarType = "u8" | "u16" | "u32" | "i32" | "f64";
/** One value. `max` bounds what a snapshot may hold; `reset` is the power-on value. */
export type ScalarField = ScalarType | { readonly type: ScalarType; readonly max?: number; readonly reset?: number };
/** A fixed-length run of values, seen as a typed array over the shared memory. */
export type ArrayField = {
  readonly array: "u8" | "u16" | "u32" | "i32" | "f64";
  readonly length: number;
  readonly max?: number;
  readonly reset?: number;
};
export type Field = ScalarField | ArrayField;
export type Fields = Readonly<Record<string, Field>>;

type ArrayOf = { u8: Uint8Array; u16: Uint16Array; u32: Uint32Array; i32: Int32Array; f64: Float64Array };

/** The accessors of a record over one place in memory. */
export type ViewOf<F extends Fields> = {
  -readonly [K in keyof F]: F[K] extends { array: infer A extends keyof ArrayOf } ? ArrayOf[A] : number;
};

export interface RecordType<F extends Fields> {
  readonly kind: string;
  readonly version: number;
  readonly fields: F;
  readonly sizeBytes: number;
  readonly offsets: { readonly [K in keyof F]: number };
  /** Accessors over `buffer` at byte `at`, which is a multiple of 8. Nothing is written. */
  view(buffer: ArrayBufferLike, at: number): ViewOf<F>;
  /** Writes the power-on values. */
  reset(view: ViewOf<F>): void;
  /** A private record with power-on values: for tests. */
  create(): ViewOf<F>;
  /** Throws RestoreError if a field of `view` is outside what the declaration allows. */
  validate(view: ViewOf<F>): void;
}

/** The view type of a record constant: `View<typeof PicRecord>`. */
export type View<R> = R extends RecordType<infer F> ? ViewOf<F> : never;
/** The fields of a record constant, as they were declared. */
export type FieldsOf<R> = R extends RecordType<infer F> ? F : never;

const SIZE = { u8: 1, u16: 2, u32: 4, i32: 4, f64: 8 } as const;
type ArrayConstructor = new (buffer: ArrayBufferLike, at: number, length: number) => ArrayOf[keyof ArrayOf];
const ARRAY: Record<keyof ArrayOf, ArrayConstructor> = {
  u8: Uint8Array,
  u16: Uint16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f64: Float64Array,
};

function isArray(f: Field): f is ArrayField {
  return typeof f === "object" && "array" in f;
}

/** Declares a record. `version` goes up whenever a field is added, removed or changes its meaning. */
export function record<const F extends Fields>(kind: string, version: number, fields: F): RecordType<F> {
  const offsets: Record<string, number> = {};
  let at = 0;
  // deno-lint-ignore no-explicit-any
  const prototype: any = {};
  for (const [name, f] of Object.entries(fields)) {
    const type: ScalarType = isArray(f) ? f.array : typeof f === "string" ? f : f.type;
    const size = SIZE[type];
    at = Math.ceil(at / size) * size;
    offsets[name] = at;
    if (!isArray(f)) Object.defineProperty(prototype, name, accessor(type, at));
    at += size * (isArray(f) ? f.length : 1);
  }
  const sizeBytes = Math.max(8, Math.ceil(at / 8) * 8);

  class RecordView {
    readonly $dv: DataView;
    constructor(buffer: ArrayBufferLike, base: number) {
      this.$dv = new DataView(buffer, base, sizeBytes);
    }
  }
  Object.defineProperties(RecordView.prototype, Object.getOwnPropertyDescriptors(prototype));

  const type: RecordType<F> = {
    kind,
    version,
    fields,
    sizeBytes,
    offsets: offsets as { [K in keyof F]: number },
    view(buffer, base) {
      if (base % 8 !== 0) throw new Bug(`Record ${kind} placed at ${base}, not a multiple of 8`);
      // deno-lint-ignore no-explicit-any
      const view: any = new RecordView(buffer, base);
      for (const [name, f] of Object.entries(fields)) {
        if (isArray(f)) view[name] = new ARRAY[f.array](buffer, base + offsets[name]!, f.length);
      }
      return view as ViewOf<F>;
    },
    reset(view) {
      // deno-lint-ignore no-explicit-any
      const v: any = view;
      for (const [name, f] of Object.entries(fields)) {
        const value = typeof f === "object" && f.reset !== undefined ? f.reset : 0;
        if (isArray(f)) v[name].fill(value);
        else v[name] = value;
      }
    },
    create() {
      const view = type.view(new ArrayBuffer(sizeBytes), 0);
      type.reset(view);
      return view;
    },
    validate(view) {
      // deno-lint-ignore no-explicit-any
      const v: any = view;
      for (const [name, f] of Object.entries(fields)) {
        if (typeof f !== "object" || f.max === undefined) continue;
        const values: Iterable<number> = isArray(f) ? v[name] : [v[name]];
        for (const value of values) {
          if (!(value >= 0 && value <= f.max)) {
            throw new RestoreError(`Cannot restore ${kind}.${name}: found ${value}, expected 0 to ${f.max}`);
          }
        }
      }
    },
  };
  return type;
}

function accessor(type: ScalarType, at: number): PropertyDescriptor & ThisType<{ $dv: DataView }> {
  switch (type) {
    case "u8":
      return {
        get: function () {
          return this.$dv.getUint8(at);
        },
        set: function (v) {
          this.$dv.setUint8(at, v);
        },
      };
    case "u16":
      return {
        get: function () {
          return this.$dv.getUint16(at, true);
        },
        set: function (v) {
          this.$dv.setUint16(at, v, true);
        },
      };
    case "u32":
      return {
        get: function () {
          return this.$dv.getUint32(at, true);
        },
        set: function (v) {
          this.$dv.setUint32(at, v, true);
        },
      };
    case "i32":
      return {
        get: function () {
          return this.$dv.getInt32(at, true);
        },
        set: function (v) {
          this.$dv.setInt32(at, v, true);
        },
      };
    case "f64":
      return {
        get: function () {
          return this.$dv.getFloat64(at, true);
        },
        set: function (v) {
          this.$dv.setFloat64(at, v, true);
        },
      };
  }
}
