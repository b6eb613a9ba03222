/** A guest's display as back ends see it: pixels, the text on it, and the keyboard and mouse before it. */

/** What a machine offers to whoever shows its display. */
export interface Screen {
  /** What `render` would fill now. */
  readonly size: { readonly width: number; readonly height: number };
  /** Fills `out` with pixels of 00RRGGBBh, row by row. `size` was asked just before. */
  render(out: Uint32Array, size: { readonly width: number; readonly height: number }): void;
  /** Codes of the characters on it, row by row, or null in a graphics mode. */
  textCells(): { readonly columns: number; readonly rows: number; readonly codes: Uint8Array } | null;
  /** A key's make or break code in scan code set 2. */
  key(codes: readonly number[]): void;
  /**
   * The pointer is at a place of the display, its wheel turned towards the user; buttons as the mouse's. False if the guest does
   * not use such a pointer.
   */
  point(x: number, y: number, dz: number, buttons: number): boolean;
  /** The mouse moved right, up, its wheel towards the user; buttons: left 1, right 2, middle 4. */
  mouse(dx: number, dy: number, dz: number, buttons: number): void;
}

/** Code page 437, in which the character generator of a PC counts: 00h to 1Fh, and 7Fh to FFh. */
const LOW = "\0☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
const HIGH = "⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀" +
  "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";

/** The text on the screen, a line a row, without blanks at the ends of lines; null in a graphics mode. */
export function screenText(screen: Pick<Screen, "textCells">): string | null {
  const cells = screen.textCells();
  if (cells === null) return null;
  const lines = Array.from(
    { length: cells.rows },
    (_, y) => Array.from(cells.codes.subarray(y * cells.columns, (y + 1) * cells.columns), unicode).join("").trimEnd(),
  );
  return lines.join("\n").trimEnd() + "\n";
}

function unicode(code: number): string {
  if (code === 0 || code === 0xff) return " ";
  return code < 0x20 ? LOW[code]! : code < 0x7f ? String.fromCharCode(code) : HIGH[code - 0x7f]!;
}
