/** A WebAssembly module under construction: [wasm §5.5]. */
import { Bug } from "../base/errors.ts";
import { Bytes } from "./bytes.ts";
import { Code } from "./code.ts";
import { type Type, TYPE_CODE, Value } from "./value.ts";

/** A function, imported or ours. */
export interface Func {
  readonly name: string;
  readonly params: readonly Type[];
  readonly results: readonly Type[];
  readonly index: number;
  readonly typeIndex: number;
}

interface Own extends Func {
  body: Bytes | undefined;
  hints: Code["hints"];
}

export class Module {
  readonly #types: string[] = [];
  readonly #typeBytes: Bytes[] = [];
  readonly #imports: { module: string; func: Func }[] = [];
  readonly #funcs: Own[] = [];
  readonly #exports: [string, Func][] = [];
  readonly #table: Func[] = [];
  readonly #importedTables: { module: string; name: string }[] = [];
  readonly #importedGlobals: { module: string; name: string; type: Type }[] = [];
  #tableName: string | undefined;
  #memory: { module: string; name: string; minPages: number; maxPages: number } | undefined;

  #type(params: readonly Type[], results: readonly Type[]): number {
    const key = `${params}:${results}`;
    const found = this.#types.indexOf(key);
    if (found >= 0) return found;
    const b = new Bytes();
    b.u8(0x60);
    for (const list of [params, results]) {
      b.u32(list.length);
      for (const t of list) b.u8(TYPE_CODE[t]);
    }
    this.#typeBytes.push(b);
    return this.#types.push(key) - 1;
  }

  /** The type index of a signature: for indirect calls. */
  signature(
    params: readonly Type[],
    results: readonly Type[],
  ): { params: readonly Type[]; results: readonly Type[]; typeIndex: number } {
    return { params, results, typeIndex: this.#type(params, results) };
  }

  /** Imports a shared memory. */
  importMemory(module: string, name: string, minPages: number, maxPages: number): void {
    this.#memory = { module, name, minPages, maxPages };
  }

  /** Imports a function; all imports come before the first function. */
  importFunc(module: string, name: string, params: readonly Type[], results: readonly Type[]): Func {
    if (this.#funcs.length > 0) throw new Bug(`Import ${name} after a function`);
    const func = { name, params, results, index: this.#imports.length, typeIndex: this.#type(params, results) };
    this.#imports.push({ module, func });
    return func;
  }

  /** Imports a table of functions, instead of having one; returns its number, for indirect calls. */
  importTable(module: string, name: string): number {
    return this.#importedTables.push({ module, name }) - 1;
  }

  /** Imports a constant. */
  importGlobal(module: string, name: string, type: Type): Value {
    return new Value(type, "global", this.#importedGlobals.push({ module, name, type }) - 1, []);
  }

  /** Exports the module's own table, which may grow. */
  exportTable(name: string): void {
    this.#tableName = name;
  }

  /** Declares a function whose body follows by `define`: for functions that call each other. */
  declare(name: string, params: readonly Type[], results: readonly Type[]): Func {
    const func: Own = {
      name,
      params,
      results,
      index: this.#imports.length + this.#funcs.length,
      typeIndex: this.#type(params, results),
      body: undefined,
      hints: [],
    };
    this.#funcs.push(func);
    return func;
  }

  define(func: Func, build: (code: Code) => void): void {
    const own = func as Own;
    if (own.body) throw new Bug(`${func.name} defined twice`);
    const code = new Code(func.params, func.results);
    build(code);
    own.body = code.finish();
    own.hints = code.hints;
  }

  func(name: string, params: readonly Type[], results: readonly Type[], build: (code: Code) => void): Func {
    const func = this.declare(name, params, results);
    this.define(func, build);
    return func;
  }

  export(func: Func, name = func.name): void {
    this.#exports.push([name, func]);
  }

  /** Appends to the module's one table; returns the entry's number. */
  tableEntry(func: Func): number {
    return this.#table.push(func) - 1;
  }

  /** The binary. With `names`, function names go into the name section, for profiles and traps. */
  bytes(names = true): Uint8Array<ArrayBuffer> {
    const out = new Bytes();
    out.raw(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
    const section = (id: number, fill: (b: Bytes) => void) => {
      const b = new Bytes();
      fill(b);
      out.u8(id);
      out.sized(b);
    };
    section(1, (b) => {
      b.u32(this.#typeBytes.length);
      for (const t of this.#typeBytes) b.raw(t.view());
    });
    section(2, (b) => {
      b.u32(this.#imports.length + (this.#memory ? 1 : 0) + this.#importedTables.length + this.#importedGlobals.length);
      for (const { module, func } of this.#imports) {
        b.name(module);
        b.name(func.name);
        b.u8(0);
        b.u32(func.typeIndex);
      }
      if (this.#memory) {
        b.name(this.#memory.module);
        b.name(this.#memory.name);
        b.u8(2);
        b.u8(3); // shared, with a maximum
        b.u32(this.#memory.minPages);
        b.u32(this.#memory.maxPages);
      }
      for (const table of this.#importedTables) {
        b.name(table.module);
        b.name(table.name);
        b.raw(Uint8Array.of(1, 0x70, 0, 0));
      }
      for (const { module, name, type } of this.#importedGlobals) {
        b.name(module);
        b.name(name);
        b.raw(Uint8Array.of(3, TYPE_CODE[type], 0));
      }
    });
    section(3, (b) => {
      b.u32(this.#funcs.length);
      for (const f of this.#funcs) b.u32(f.typeIndex);
    });
    if (this.#table.length > 0) {
      section(4, (b) => {
        b.u32(1);
        b.u8(0x70);
        b.u8(0);
        b.u32(this.#table.length);
      });
    }
    section(7, (b) => {
      b.u32(this.#exports.length + (this.#tableName ? 1 : 0));
      if (this.#tableName) {
        b.name(this.#tableName);
        b.raw(Uint8Array.of(1, 0));
      }
      for (const [name, f] of this.#exports) {
        b.name(name);
        b.u8(0);
        b.u32(f.index);
      }
    });
    if (this.#table.length > 0) {
      section(9, (b) => {
        b.u32(1);
        b.u32(0);
        b.u8(0x41);
        b.s32(0);
        b.u8(0x0b);
        b.u32(this.#table.length);
        for (const f of this.#table) b.u32(f.index);
      });
    }
    const hinted = this.#funcs.filter((f) => f.hints.length > 0);
    if (hinted.length > 0) {
      section(0, (b) => {
        b.name("metadata.code.branch_hint");
        b.u32(hinted.length);
        for (const f of hinted) {
          b.u32(f.index);
          b.u32(f.hints.length);
          for (const [at, likely] of f.hints) {
            b.u32(at);
            b.u8(1);
            b.u8(likely ? 1 : 0);
          }
        }
      });
    }
    section(10, (b) => {
      b.u32(this.#funcs.length);
      for (const f of this.#funcs) {
        if (!f.body) throw new Bug(`${f.name} declared but not defined`);
        b.sized(f.body);
      }
    });
    if (names) {
      section(0, (b) => {
        b.name("name");
        b.u8(1);
        const sub = new Bytes();
        sub.u32(this.#imports.length + this.#funcs.length);
        for (const f of [...this.#imports.map((i) => i.func), ...this.#funcs]) {
          sub.u32(f.index);
          sub.name(f.name);
        }
        b.sized(sub);
      });
    }
    return out.view().slice();
  }
}
