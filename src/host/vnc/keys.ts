/**
 * From keysyms to the codes of a keyboard with the American layout.
 *
 * Spec: [rfc6143 §7.5.4] keysyms; [scancodes §Set 2] codes. Characters are found by the key they are on: who presses Shift for
 * them presses it on the guest's keyboard as well. A keysym that is on no key is not sent.
 */

const EXTENDED = 0xe0, BREAK = 0xf0;

/** The characters of each key without and with Shift, then its code. */
const CHARACTERS: readonly (readonly [string, number])[] = [
  ["`~", 0x0e],
  ["1!", 0x16],
  ["2@", 0x1e],
  ["3#", 0x26],
  ["4$", 0x25],
  ["5%", 0x2e],
  ["6^", 0x36],
  ["7&", 0x3d],
  ["8*", 0x3e],
  ["9(", 0x46],
  ["0)", 0x45],
  ["-_", 0x4e],
  ["=+", 0x55],
  ["qQ", 0x15],
  ["wW", 0x1d],
  ["eE", 0x24],
  ["rR", 0x2d],
  ["tT", 0x2c],
  ["yY", 0x35],
  ["uU", 0x3c],
  ["iI", 0x43],
  ["oO", 0x44],
  ["pP", 0x4d],
  ["[{", 0x54],
  ["]}", 0x5b],
  ["\\|", 0x5d],
  ["aA", 0x1c],
  ["sS", 0x1b],
  ["dD", 0x23],
  ["fF", 0x2b],
  ["gG", 0x34],
  ["hH", 0x33],
  ["jJ", 0x3b],
  ["kK", 0x42],
  ["lL", 0x4b],
  [";:", 0x4c],
  ["'\"", 0x52],
  ["zZ", 0x1a],
  ["xX", 0x22],
  ["cC", 0x21],
  ["vV", 0x2a],
  ["bB", 0x32],
  ["nN", 0x31],
  ["mM", 0x3a],
  [",<", 0x41],
  [".>", 0x49],
  ["/?", 0x4a],
  [" ", 0x29],
];

/** Keysyms of keys that are no characters; codes above FFh have the prefix E0h. */
const NAMED: readonly (readonly [number, number])[] = [
  [0xff08, 0x66], // BackSpace
  [0xff09, 0x0d], // Tab
  [0xfe20, 0x0d], // ISO_Left_Tab
  [0xff0d, 0x5a], // Return
  [0xff13, 0xe114], // Pause: see codesOf
  [0xff14, 0x7e], // Scroll_Lock
  [0xff1b, 0x76], // Escape
  [0xff50, 0xe06c], // Home
  [0xff51, 0xe06b], // Left
  [0xff52, 0xe075], // Up
  [0xff53, 0xe074], // Right
  [0xff54, 0xe072], // Down
  [0xff55, 0xe07d], // Page_Up
  [0xff56, 0xe07a], // Page_Down
  [0xff57, 0xe069], // End
  [0xff61, 0xe07c], // Print
  [0xff63, 0xe070], // Insert
  [0xff67, 0xe02f], // Menu
  [0xff7f, 0x77], // Num_Lock
  [0xff8d, 0xe05a], // KP_Enter
  [0xff95, 0x6c], // KP_Home
  [0xff96, 0x6b], // KP_Left
  [0xff97, 0x75], // KP_Up
  [0xff98, 0x74], // KP_Right
  [0xff99, 0x72], // KP_Down
  [0xff9a, 0x7d], // KP_Page_Up
  [0xff9b, 0x7a], // KP_Page_Down
  [0xff9c, 0x69], // KP_End
  [0xff9d, 0x73], // KP_Begin
  [0xff9e, 0x70], // KP_Insert
  [0xff9f, 0x71], // KP_Delete
  [0xffaa, 0x7c], // KP_Multiply
  [0xffab, 0x79], // KP_Add
  [0xffad, 0x7b], // KP_Subtract
  [0xffae, 0x71], // KP_Decimal
  [0xffaf, 0xe04a], // KP_Divide
  ...[0x70, 0x69, 0x72, 0x7a, 0x6b, 0x73, 0x74, 0x6c, 0x75, 0x7d].map((code, i) => [0xffb0 + i, code] as const), // KP_0…
  // F1 to F12
  ...[0x05, 0x06, 0x04, 0x0c, 0x03, 0x0b, 0x83, 0x0a, 0x01, 0x09, 0x78, 0x07].map((code, i) =>
    [0xffbe + i, code] as const
  ),
  [0xffe1, 0x12], // Shift_L
  [0xffe2, 0x59], // Shift_R
  [0xffe3, 0x14], // Control_L
  [0xffe4, 0xe014], // Control_R
  [0xffe5, 0x58], // Caps_Lock
  [0xffe7, 0xe01f], // Meta_L
  [0xffe8, 0xe027], // Meta_R
  [0xffe9, 0x11], // Alt_L
  [0xffea, 0xe011], // Alt_R
  [0xfe03, 0xe011], // ISO_Level3_Shift
  [0xffeb, 0xe01f], // Super_L
  [0xffec, 0xe027], // Super_R
  [0xffff, 0xe071], // Delete
];

const CODES = new Map<number, number>([
  ...CHARACTERS.flatMap(([keys, code]) => [...keys].map((ch) => [ch.charCodeAt(0), code] as const)),
  ...NAMED,
]);

const PAUSE = 0xe114;
/** Pause has no break code: both come when it is pressed. */
const PAUSE_CODES = [0xe1, 0x14, 0x77, 0xe1, BREAK, 0x14, BREAK, 0x77];

/** The bytes a keyboard sends when the key of `keysym` goes down or up; none if there is no such key. */
export function codesOf(keysym: number, down: boolean): readonly number[] {
  const code = CODES.get(keysym);
  if (code === undefined) return [];
  if (code === PAUSE) return down ? PAUSE_CODES : [];
  return [...(code > 0xff ? [EXTENDED] : []), ...(down ? [] : [BREAK]), code & 0xff];
}
