/** Pictures of a display, taken no more often than they can be seen, and what has changed from one to another. */
import type { Screen } from "../screen.ts";
import type { Picture, Rect } from "./encodings.ts";

/** 30 a second. */
export const FRAME_MS = 33;
const TILE_WIDTH = 64, TILE_HEIGHT = 16;

/** One for all clients. */
export class Frames {
  #picture: Picture = { width: 0, height: 0, pixels: new Uint32Array() };
  #takenMs = -Infinity;

  constructor(private readonly screen: Screen, private readonly nowMs: () => number = () => performance.now()) {}

  /** The display as it is, or was a moment ago. It is overwritten by the next. */
  take(): Picture {
    const now = this.nowMs();
    if (now - this.#takenMs < FRAME_MS / 2) return this.#picture;
    const size = this.screen.size;
    if (size.width !== this.#picture.width || size.height !== this.#picture.height) {
      this.#picture = { ...size, pixels: new Uint32Array(size.width * size.height) };
    }
    this.screen.render(this.#picture.pixels, size);
    this.#takenMs = now;
    return this.#picture;
  }
}

/** What a client has been shown. */
export class Shown {
  #pixels = new Uint32Array();
  #width = 0;
  #height = 0;
  /** By tile: must be sent, whatever it shows. */
  #forced = new Uint8Array();

  get width(): number {
    return this.#width;
  }
  get height(): number {
    return this.#height;
  }

  /** The client's picture has this size now, and nothing of it is known. */
  resize(width: number, height: number): void {
    this.#width = width;
    this.#height = height;
    this.#pixels = new Uint32Array(width * height);
    this.#forced = new Uint8Array(this.#columns * this.#rows).fill(1);
  }

  get #columns(): number {
    return Math.ceil(this.#width / TILE_WIDTH);
  }
  get #rows(): number {
    return Math.ceil(this.#height / TILE_HEIGHT);
  }

  /** The client wants this part anew. */
  forget(r: Rect): void {
    for (let row = Math.floor(r.y / TILE_HEIGHT); row * TILE_HEIGHT < Math.min(r.y + r.height, this.#height); row++) {
      for (let c = Math.floor(r.x / TILE_WIDTH); c * TILE_WIDTH < Math.min(r.x + r.width, this.#width); c++) {
        this.#forced[row * this.#columns + c] = 1;
      }
    }
  }

  /** Rectangles in which `picture` differs, in tiles; they count as shown now. What lies outside the client's size is left out. */
  update(picture: Picture): Rect[] {
    const rects: Rect[] = [];
    for (let row = 0; row < this.#rows; row++) {
      const y = row * TILE_HEIGHT, height = Math.min(TILE_HEIGHT, this.#height - y);
      let from = -1;
      for (let c = 0; c <= this.#columns; c++) {
        const changed = c < this.#columns && this.#take(picture, c, row);
        if (changed && from < 0) from = c * TILE_WIDTH;
        if (changed || from < 0) continue;
        const width = Math.min(c * TILE_WIDTH, this.#width) - from;
        const above = rects.at(-1);
        if (above && above.x === from && above.width === width && above.y + above.height === y) {
          rects[rects.length - 1] = { ...above, height: above.height + height };
        } else rects.push({ x: from, y, width, height });
        from = -1;
      }
    }
    return rects;
  }

  /** Whether a tile must be sent; copies it. */
  #take(picture: Picture, column: number, row: number): boolean {
    const index = row * this.#columns + column;
    let changed = this.#forced[index] === 1;
    this.#forced[index] = 0;
    const x0 = column * TILE_WIDTH, x1 = Math.min(x0 + TILE_WIDTH, this.#width);
    for (let y = row * TILE_HEIGHT; y < Math.min((row + 1) * TILE_HEIGHT, this.#height); y++) {
      for (let x = x0; x < x1; x++) {
        const pixel = x < picture.width && y < picture.height ? picture.pixels[y * picture.width + x]! : 0;
        const at = y * this.#width + x;
        if (this.#pixels[at] === pixel) continue;
        this.#pixels[at] = pixel;
        changed = true;
      }
    }
    return changed;
  }

  /** What was shown last: stays as it is until the next `update`. */
  get picture(): Picture {
    return { width: this.#width, height: this.#height, pixels: this.#pixels };
  }
}
