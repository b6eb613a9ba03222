/**
 * WebAssembly instructions that have no immediate operand, by name: [wasm §5.4].
 *
 * A row is: code, operand types, result type; i = i32, I = i64, f = f32, F = f64, v = v128. Codes above 0xFF carry their prefix
 * byte in bits 8..15 (0xFC: saturating truncation, 0xFD: vectors, whose sub-opcode may pass 0xFF and so starts at bit 0).
 */
export const SIMD = 0xfd_0000;
export const MISC = 0xfc_0000;

function rows(prefix: number, at: number, signature: string, names: string): [string, number, string][] {
  return names.split(" ").map((name, i) => [name, prefix | (at + i), signature]);
}

const compare32 = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u";
const compareF = "eq ne lt gt le ge";
const binary = "add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr";
const unaryF = "abs neg ceil floor trunc nearest sqrt";
const binaryF = "add sub mul div min max copysign";
const prefixed = (t: string, names: string) => names.split(" ").map((n) => `${t}.${n}`).join(" ");

const ALL: [string, number, string][] = [
  ...rows(0, 0x45, "i:i", "i32.eqz"),
  ...rows(0, 0x46, "ii:i", prefixed("i32", compare32)),
  ...rows(0, 0x50, "I:i", "i64.eqz"),
  ...rows(0, 0x51, "II:i", prefixed("i64", compare32)),
  ...rows(0, 0x5b, "ff:i", prefixed("f32", compareF)),
  ...rows(0, 0x61, "FF:i", prefixed("f64", compareF)),
  ...rows(0, 0x67, "i:i", prefixed("i32", "clz ctz popcnt")),
  ...rows(0, 0x6a, "ii:i", prefixed("i32", binary)),
  ...rows(0, 0x79, "I:I", prefixed("i64", "clz ctz popcnt")),
  ...rows(0, 0x7c, "II:I", prefixed("i64", binary)),
  ...rows(0, 0x8b, "f:f", prefixed("f32", unaryF)),
  ...rows(0, 0x92, "ff:f", prefixed("f32", binaryF)),
  ...rows(0, 0x99, "F:F", prefixed("f64", unaryF)),
  ...rows(0, 0xa0, "FF:F", prefixed("f64", binaryF)),
  ...rows(0, 0xa7, "I:i", "i32.wrap_i64"),
  ...rows(0, 0xac, "i:I", "i64.extend_i32_s i64.extend_i32_u"),
  ...rows(0, 0xb2, "i:f", "f32.convert_i32_s f32.convert_i32_u"),
  ...rows(0, 0xb4, "I:f", "f32.convert_i64_s f32.convert_i64_u"),
  ...rows(0, 0xb6, "F:f", "f32.demote_f64"),
  ...rows(0, 0xb7, "i:F", "f64.convert_i32_s f64.convert_i32_u"),
  ...rows(0, 0xb9, "I:F", "f64.convert_i64_s f64.convert_i64_u"),
  ...rows(0, 0xbb, "f:F", "f64.promote_f32"),
  ...rows(0, 0xbc, "f:i", "i32.reinterpret_f32"),
  ...rows(0, 0xbd, "F:I", "i64.reinterpret_f64"),
  ...rows(0, 0xbe, "i:f", "f32.reinterpret_i32"),
  ...rows(0, 0xbf, "I:F", "f64.reinterpret_i64"),
  ...rows(0, 0xc0, "i:i", "i32.extend8_s i32.extend16_s"),
  ...rows(0, 0xc2, "I:I", "i64.extend8_s i64.extend16_s i64.extend32_s"),
  ...rows(MISC, 0, "f:i", "i32.trunc_sat_f32_s i32.trunc_sat_f32_u"),
  ...rows(MISC, 2, "F:i", "i32.trunc_sat_f64_s i32.trunc_sat_f64_u"),
  ...rows(MISC, 4, "f:I", "i64.trunc_sat_f32_s i64.trunc_sat_f32_u"),
  ...rows(MISC, 6, "F:I", "i64.trunc_sat_f64_s i64.trunc_sat_f64_u"),

  ...rows(SIMD, 14, "vv:v", "i8x16.swizzle"),
  ...rows(SIMD, 15, "i:v", "i8x16.splat i16x8.splat i32x4.splat"),
  ...rows(SIMD, 18, "I:v", "i64x2.splat"),
  ...rows(SIMD, 19, "f:v", "f32x4.splat"),
  ...rows(SIMD, 20, "F:v", "f64x2.splat"),
  ...rows(SIMD, 35, "vv:v", prefixed("i8x16", compare32)),
  ...rows(SIMD, 45, "vv:v", prefixed("i16x8", compare32)),
  ...rows(SIMD, 55, "vv:v", prefixed("i32x4", compare32)),
  ...rows(SIMD, 65, "vv:v", prefixed("f32x4", compareF)),
  ...rows(SIMD, 71, "vv:v", prefixed("f64x2", compareF)),
  ...rows(SIMD, 77, "v:v", "v128.not"),
  ...rows(SIMD, 78, "vv:v", "v128.and v128.andnot v128.or v128.xor"),
  ...rows(SIMD, 82, "vvv:v", "v128.bitselect"),
  ...rows(SIMD, 83, "v:i", "v128.any_true"),
  ...rows(SIMD, 94, "v:v", "f32x4.demote_f64x2_zero f64x2.promote_low_f32x4 i8x16.abs i8x16.neg i8x16.popcnt"),
  ...rows(SIMD, 99, "v:i", "i8x16.all_true i8x16.bitmask"),
  ...rows(SIMD, 101, "vv:v", "i8x16.narrow_i16x8_s i8x16.narrow_i16x8_u"),
  ...rows(SIMD, 103, "v:v", prefixed("f32x4", "ceil floor trunc nearest")),
  ...rows(SIMD, 107, "vi:v", prefixed("i8x16", "shl shr_s shr_u")),
  ...rows(SIMD, 110, "vv:v", prefixed("i8x16", "add add_sat_s add_sat_u sub sub_sat_s sub_sat_u")),
  ...rows(SIMD, 116, "v:v", "f64x2.ceil f64x2.floor"),
  ...rows(SIMD, 118, "vv:v", prefixed("i8x16", "min_s min_u max_s max_u")),
  ...rows(SIMD, 122, "v:v", "f64x2.trunc"),
  ...rows(SIMD, 123, "vv:v", "i8x16.avgr_u"),
  ...rows(
    SIMD,
    124,
    "v:v",
    "i16x8.extadd_pairwise_i8x16_s i16x8.extadd_pairwise_i8x16_u i32x4.extadd_pairwise_i16x8_s i32x4.extadd_pairwise_i16x8_u",
  ),
  ...rows(SIMD, 128, "v:v", "i16x8.abs i16x8.neg"),
  ...rows(SIMD, 130, "vv:v", "i16x8.q15mulr_sat_s"),
  ...rows(SIMD, 131, "v:i", "i16x8.all_true i16x8.bitmask"),
  ...rows(SIMD, 133, "vv:v", "i16x8.narrow_i32x4_s i16x8.narrow_i32x4_u"),
  ...rows(
    SIMD,
    135,
    "v:v",
    prefixed("i16x8", "extend_low_i8x16_s extend_high_i8x16_s extend_low_i8x16_u extend_high_i8x16_u"),
  ),
  ...rows(SIMD, 139, "vi:v", prefixed("i16x8", "shl shr_s shr_u")),
  ...rows(SIMD, 142, "vv:v", prefixed("i16x8", "add add_sat_s add_sat_u sub sub_sat_s sub_sat_u")),
  ...rows(SIMD, 148, "v:v", "f64x2.nearest"),
  ...rows(SIMD, 149, "vv:v", prefixed("i16x8", "mul min_s min_u max_s max_u")),
  ...rows(SIMD, 155, "vv:v", "i16x8.avgr_u"),
  ...rows(
    SIMD,
    156,
    "vv:v",
    prefixed("i16x8", "extmul_low_i8x16_s extmul_high_i8x16_s extmul_low_i8x16_u extmul_high_i8x16_u"),
  ),
  ...rows(SIMD, 160, "v:v", "i32x4.abs i32x4.neg"),
  ...rows(SIMD, 163, "v:i", "i32x4.all_true i32x4.bitmask"),
  ...rows(
    SIMD,
    167,
    "v:v",
    prefixed("i32x4", "extend_low_i16x8_s extend_high_i16x8_s extend_low_i16x8_u extend_high_i16x8_u"),
  ),
  ...rows(SIMD, 171, "vi:v", prefixed("i32x4", "shl shr_s shr_u")),
  ...rows(SIMD, 174, "vv:v", "i32x4.add"),
  ...rows(SIMD, 177, "vv:v", "i32x4.sub"),
  ...rows(SIMD, 181, "vv:v", prefixed("i32x4", "mul min_s min_u max_s max_u dot_i16x8_s")),
  ...rows(
    SIMD,
    188,
    "vv:v",
    prefixed("i32x4", "extmul_low_i16x8_s extmul_high_i16x8_s extmul_low_i16x8_u extmul_high_i16x8_u"),
  ),
  ...rows(SIMD, 192, "v:v", "i64x2.abs i64x2.neg"),
  ...rows(SIMD, 195, "v:i", "i64x2.all_true i64x2.bitmask"),
  ...rows(
    SIMD,
    199,
    "v:v",
    prefixed("i64x2", "extend_low_i32x4_s extend_high_i32x4_s extend_low_i32x4_u extend_high_i32x4_u"),
  ),
  ...rows(SIMD, 203, "vi:v", prefixed("i64x2", "shl shr_s shr_u")),
  ...rows(SIMD, 206, "vv:v", "i64x2.add"),
  ...rows(SIMD, 209, "vv:v", "i64x2.sub"),
  ...rows(SIMD, 213, "vv:v", prefixed("i64x2", "mul eq ne lt_s gt_s le_s ge_s")),
  ...rows(
    SIMD,
    220,
    "vv:v",
    prefixed("i64x2", "extmul_low_i32x4_s extmul_high_i32x4_s extmul_low_i32x4_u extmul_high_i32x4_u"),
  ),
  ...rows(SIMD, 224, "v:v", "f32x4.abs f32x4.neg"),
  ...rows(SIMD, 227, "v:v", "f32x4.sqrt"),
  ...rows(SIMD, 228, "vv:v", prefixed("f32x4", "add sub mul div min max pmin pmax")),
  ...rows(SIMD, 236, "v:v", "f64x2.abs f64x2.neg"),
  ...rows(SIMD, 239, "v:v", "f64x2.sqrt"),
  ...rows(SIMD, 240, "vv:v", prefixed("f64x2", "add sub mul div min max pmin pmax")),
  ...rows(
    SIMD,
    248,
    "v:v",
    "i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_s f32x4.convert_i32x4_u",
  ),
  ...rows(
    SIMD,
    252,
    "v:v",
    "i32x4.trunc_sat_f64x2_s_zero i32x4.trunc_sat_f64x2_u_zero f64x2.convert_low_i32x4_s f64x2.convert_low_i32x4_u",
  ),
];

export interface Opcode {
  readonly name: string;
  readonly code: number;
  readonly params: string;
  readonly result: string;
}

/** Every instruction of the table by its name. */
export const OPCODES: ReadonlyMap<string, Opcode> = new Map(
  ALL.map(([name, code, signature]) => {
    const [params, result] = signature.split(":") as [string, string];
    return [name, { name, code, params, result }];
  }),
);

/** Loads and stores: opcode, and the log2 of the natural alignment. */
export const MEMORY = {
  "i32.load": [0x28, 2],
  "i64.load": [0x29, 3],
  "f32.load": [0x2a, 2],
  "f64.load": [0x2b, 3],
  "i32.load8_s": [0x2c, 0],
  "i32.load8_u": [0x2d, 0],
  "i32.load16_s": [0x2e, 1],
  "i32.load16_u": [0x2f, 1],
  "i64.load8_s": [0x30, 0],
  "i64.load8_u": [0x31, 0],
  "i64.load16_s": [0x32, 1],
  "i64.load16_u": [0x33, 1],
  "i64.load32_s": [0x34, 2],
  "i64.load32_u": [0x35, 2],
  "i32.store": [0x36, 2],
  "i64.store": [0x37, 3],
  "f32.store": [0x38, 2],
  "f64.store": [0x39, 3],
  "i32.store8": [0x3a, 0],
  "i32.store16": [0x3b, 1],
  "i64.store8": [0x3c, 0],
  "i64.store16": [0x3d, 1],
  "i64.store32": [0x3e, 2],
  "v128.load": [SIMD | 0, 4],
  "v128.store": [SIMD | 11, 4],
} as const;

/** Vector instructions with a lane immediate: code, operand types, result type. */
export const LANES = {
  "i8x16.extract_lane_s": [21, "v:i"],
  "i8x16.extract_lane_u": [22, "v:i"],
  "i8x16.replace_lane": [23, "vi:v"],
  "i16x8.extract_lane_s": [24, "v:i"],
  "i16x8.extract_lane_u": [25, "v:i"],
  "i16x8.replace_lane": [26, "vi:v"],
  "i32x4.extract_lane": [27, "v:i"],
  "i32x4.replace_lane": [28, "vi:v"],
  "i64x2.extract_lane": [29, "v:I"],
  "i64x2.replace_lane": [30, "vI:v"],
  "f32x4.extract_lane": [31, "v:f"],
  "f32x4.replace_lane": [32, "vf:v"],
  "f64x2.extract_lane": [33, "v:F"],
  "f64x2.replace_lane": [34, "vF:v"],
} as const;
