/** A 9P2000.L client for tests: requests as bytes, replies taken apart. Independent of the server's own reader and writer. */
import type { P9Server } from "../../src/host/share/server.ts";

type Part = { readonly u8: number } | { readonly u16: number } | number | bigint | string | Uint8Array;

/** Fields one behind the other: numbers are four bytes, bigints eight, text has its length before it. */
export function fields(...parts: Part[]): Uint8Array {
  const bytes: number[] = [];
  const put = (value: bigint, size: number) => {
    for (let i = 0; i < size; i++) bytes.push(Number((value >> BigInt(8 * i)) & 0xffn));
  };
  for (const part of parts) {
    if (typeof part === "number") put(BigInt(part), 4);
    else if (typeof part === "bigint") put(part, 8);
    else if (part instanceof Uint8Array) bytes.push(...part);
    else if (typeof part === "string") {
      const text = new TextEncoder().encode(part);
      put(BigInt(text.length), 2);
      bytes.push(...text);
    } else if ("u8" in part) put(BigInt(part.u8), 1);
    else put(BigInt(part.u16), 2);
  }
  return Uint8Array.from(bytes);
}

export function message(type: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(7 + body.length);
  const dv = new DataView(bytes.buffer);
  dv.setUint32(0, bytes.length, true);
  dv.setUint8(4, type);
  dv.setUint16(5, 1, true);
  bytes.set(body, 7);
  return bytes;
}

export class Client {
  constructor(readonly server: P9Server, attach = true) {
    if (!attach) return;
    this.must(100, 65536, "9P2000.L");
    this.must(104, 0, 0xffffffff, "", "", 0);
  }

  /** The reply's body, or the number it was refused with. */
  ask(type: number, ...parts: Part[]): DataView | number {
    const reply = new Uint8Array(65536);
    const size = this.server.respond(message(type, fields(...parts)), reply);
    const dv = new DataView(reply.buffer, 7, size - 7);
    if (reply[4] === 7) return dv.getUint32(0, true);
    if (reply[4] !== type + 1) throw new Error(`${type} was answered by ${reply[4]}`);
    return dv;
  }

  must(type: number, ...parts: Part[]): DataView {
    const reply = this.ask(type, ...parts);
    if (typeof reply === "number") throw new Error(`message ${type} was refused: errno ${reply}`);
    return reply;
  }

  /** Walks from the root; how many names it got. */
  walk(fid: number, ...names: string[]): number | { qids: number } {
    const reply = this.ask(110, 0, fid, { u16: names.length }, ...names);
    return typeof reply === "number" ? reply : { qids: reply.getUint16(0, true) };
  }

  clunk(fid: number): void {
    this.must(120, fid);
  }

  /** Names in the folder of an open fid, a few entries at a time. */
  names(fid: number, count: number): string[] {
    const names: string[] = [];
    for (let offset = 0n;;) {
      const dv = this.must(40, fid, offset, count);
      const end = 4 + dv.getUint32(0, true);
      if (end === 4) return names;
      for (let at = 4; at < end;) {
        offset = dv.getBigUint64(at + 13, true);
        const size = dv.getUint16(at + 22, true);
        names.push(new TextDecoder().decode(new Uint8Array(dv.buffer, dv.byteOffset + at + 24, size)));
        at += 24 + size;
      }
    }
  }
}
