/**
 * A compiler whose code only leaves again, wherever it is entered: what runs is all that stands around native code, and the
 * interpreter does the guest's instructions. Some blocks are not entered; behind some instructions control comes back.
 */
import type { Instruction, Region } from "../../src/cpu/x86/jit/region.ts";
import { STATUS } from "../../src/cpu/x86/ops.ts";
import { reg, S, VBASE } from "../../src/cpu/x86/state.ts";
import type { NativeCompiler } from "../../src/engine/soft/native/tier.ts";
import { hex, le32 } from "./fixture.ts";

/** A few of so many, always the same. */
const chosen = (n: number, of: number) => (Math.imul(n, 0x9e37_79b1) >>> 20) % of === 0;

export class Bouncer implements NativeCompiler {
  thunk(): Uint8Array {
    // push r15; mov r15, rdi; call [r15 + nativeTarget]; xor eax, eax; pop r15; ret
    return hex(`41 57 49 89 ff 41 ff 97 ${le32(S.nativeTarget)} 31 c0 41 5f c3`);
  }

  leavesAt(i: Instruction): boolean {
    return chosen(i.at, 3);
  }

  compile(region: Region) {
    const pieces: Uint8Array[] = [], resumes = new Map<Instruction, number>();
    let length = 0;
    const add = (piece: Uint8Array) => {
      const at = length;
      pieces.push(piece);
      length += piece.length;
      return at;
    };
    const entries = region.blocks.map((block) => {
      const list = block.instructions;
      list.forEach((i, k) => {
        // A few have nothing to come back to.
        if (!this.leavesAt(i) || chosen(i.at, 7)) return;
        resumes.set(i, add(k + 1 < list.length ? resumeAt(list[k + 1]!.record) : jumpTo(block.next)));
      });
      return chosen(block.at, 5) ? -1 : add(resumeAt(list[0]!.record));
    });
    const code = new Uint8Array(length);
    let at = 0;
    for (const piece of pieces) {
      code.set(piece, at);
      at += piece.length;
    }
    return { code, entries: Int32Array.from(entries), resumes };
  }
}

/** mov dword [r15 + field], value */
const put = (field: keyof typeof S, value: number) => `41 c7 87 ${le32(S[field])} ${le32(value)}`;

function resumeAt(record: number): Uint8Array {
  return hex(`${put("resumeOp", record)} ${put("exitStatus", STATUS.RESUME)} c3`);
}

function jumpTo(offset: number): Uint8Array {
  // mov rax, [r15 + VBASE]; add rax, offset; mov [r15 + rip], rax
  const target = `49 8b 87 ${le32(reg(VBASE))} 48 05 ${le32(offset)} 49 89 87 ${le32(S.rip)}`;
  return hex(`${target} ${put("exitStatus", STATUS.JUMP)} c3`);
}
