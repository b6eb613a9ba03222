/**
 * The library's code: for each function a stub that finds the calling thread's table of functions and jumps to its entry there,
 * with the arguments as they came.
 *
 * A thread is known by its thread pointer, which the psABI keeps at FS:0. Threads that have no table get `missing` back.
 */
import { type Exported, writeSharedObject } from "./elf.ts";

/** Threads that can have tables. */
export const THREADS = 256;
/** What lies in the data segment: pairs of thread pointer and address of its table, ended by zeros; then words for all threads. */
export const THREAD_TABLE = "trike_double_threads", WORDS = "trike_double_words", THREAD = "trike_double_thread";
export const WORDS_BYTES = 256;

export interface Library {
  readonly soname: string;
  /** In the order of the entries of threads' tables. */
  readonly functions: readonly string[];
  /** Variables `const char *const NAME` with what they point to. */
  readonly strings: Readonly<Record<string, string>>;
  /** Variables of 8 bytes, zero. */
  readonly words: readonly string[];
  /** What functions return to a thread that has no table. */
  readonly missing: number;
}

export function writeLibrary(library: Library): Uint8Array {
  const { functions } = library;
  const symbols: Exported[] = [];
  const STUB = 16;
  functions.forEach((name, i) => symbols.push({ name, kind: "function", at: i * STUB, size: STUB }));
  const threadAt = functions.length * STUB, dispatchAt = threadAt + STUB;
  symbols.push({ name: THREAD, kind: "function", at: threadAt, size: STUB });

  const threadBytes = (THREADS + 1) * 16;
  symbols.push({ name: THREAD_TABLE, kind: "object", at: 0, size: threadBytes });
  symbols.push({ name: WORDS, kind: "object", at: threadBytes, size: WORDS_BYTES });
  const pointers: [number, number][] = [], data: number[] = new Array(threadBytes + WORDS_BYTES).fill(0);
  for (const name of library.words) {
    symbols.push({ name, kind: "object", at: data.length, size: 8 });
    data.push(...new Array(8).fill(0));
  }
  const variables = Object.entries(library.strings);
  const stringsAt = data.length + variables.length * 8, texts: number[] = [];
  for (const [name, text] of variables) {
    symbols.push({ name, kind: "object", at: data.length, size: 8 });
    pointers.push([data.length, stringsAt + texts.length]);
    data.push(...new Array(8).fill(0));
    texts.push(...new TextEncoder().encode(text), 0);
  }
  data.push(...texts);

  const text = (textAddress: number, dataAddress: number): Uint8Array => {
    const out: number[] = [];
    const u32 = (v: number) => [v & 255, (v >> 8) & 255, (v >> 16) & 255, (v >> 24) & 255];
    const padded = (...bytes: number[]) => {
      while (bytes.length < STUB) bytes.push(0xcc);
      out.push(...bytes);
    };
    functions.forEach((_, i) => {
      // mov r11d, i; jmp dispatch
      padded(0x41, 0xbb, ...u32(i), 0xe9, ...u32(dispatchAt - (i * STUB + 11)));
    });
    // mov rax, fs:[0]; ret
    padded(0x64, 0x48, 0x8b, 0x04, 0x25, ...u32(0), 0xc3);
    const table = dataAddress - (textAddress + dispatchAt + 16);
    out.push(0x64, 0x4c, 0x8b, 0x14, 0x25, ...u32(0)); // mov r10, fs:[0]
    out.push(0x48, 0x8d, 0x05, ...u32(table)); // lea rax, [rip + threads]
    out.push(0x48, 0x83, 0x38, 0x00); // next: cmp qword [rax], 0
    out.push(0x74, 0x13); // je missing
    out.push(0x4c, 0x39, 0x10); // cmp [rax], r10
    out.push(0x74, 0x06); // je found
    out.push(0x48, 0x83, 0xc0, 0x10); // add rax, 16
    out.push(0xeb, 0xef); // jmp next
    out.push(0x48, 0x8b, 0x40, 0x08); // found: mov rax, [rax + 8]
    out.push(0x42, 0xff, 0x24, 0xd8); // jmp [rax + r11 * 8]
    out.push(0xb8, ...u32(library.missing | 0), 0xc3); // missing: mov eax, code; ret
    return Uint8Array.from(out);
  };
  return writeSharedObject({ soname: library.soname, symbols, text, data: Uint8Array.from(data), zeros: 0, pointers });
}
