/** What every engine owes on the machine's own board, whoever is its interrupt controllers. */
import { assert, assertEquals } from "@std/assert";
import type { Pc } from "../../src/machine/pc.ts";
import * as B from "./board_programs.ts";
import { type Board, BoardRig } from "./board_rig.ts";
import * as P from "./law_programs.ts";
import { DATA } from "./law_rig.ts";

const TIMER = 0x30, SELF = 0x31, NMI = 2;
const MSI_TO_FIRST = 0xfee0_0000, AS_NMI = 4 << 8;

/** Interrupts of a guest that ends after the fifth: a busy host may let one or two more in before it has looked. */
function assertFive(interrupts: number): void {
  assert(interrupts >= 5 && interrupts <= 7, `expected five interrupts, found ${interrupts}`);
}

export const BOARD_LAWS: Readonly<Record<string, (board: Board) => Promise<void>>> = {
  async "a deadline of the time-stamp counter wakes HLT when it has passed"(board) {
    const ticks = 3_000_000;
    using rig = await BoardRig.open(board);
    const { ram } = rig.pc;
    rig.long(P.DEADLINE, { [TIMER]: P.DEADLINE_HANDLER });
    ram.write(DATA + 8, 4, ticks);
    rig.toExit();
    const passed = ram.read64(DATA + 16);
    assert(passed >= ticks, `expected at least ${ticks} ticks, found ${passed}`);
    assertEquals(ram.read64(DATA + 24), 0);
  },

  async "a periodic timer interrupts a guest that never exits by itself"(board) {
    using rig = await BoardRig.open(board);
    rig.long(P.PERIODIC, { [TIMER]: P.PERIODIC_HANDLER });
    rig.toExit();
    assertFive(rig.pc.ram.read(DATA, 4));
  },

  async "a timer that runs once counts down to zero and stays there"(board) {
    using rig = await BoardRig.open(board);
    rig.long(B.ONE_SHOT, { [TIMER]: B.APIC_HANDLER });
    rig.toExit();
    const [interrupts, first, second, last] = words(rig.pc, 4);
    assertEquals([interrupts, last], [1, 0]);
    assert(first! <= 20_000_000 && second! < first!, `counted ${first}, then ${second}`);
  },

  async "the PIT interrupts by the 8259A pair, in virtual wire mode"(board) {
    using rig = await BoardRig.open(board);
    rig.long(B.PIT_BY_PIC, { [TIMER]: B.PIT_BY_PIC_HANDLER });
    rig.toExit();
    assertFive(words(rig.pc, 1)[0]!);
  },

  async "the PIT interrupts by input 2 of the I/O APIC"(board) {
    using rig = await BoardRig.open(board);
    rig.long(B.PIT_BY_IO_APIC, { [TIMER]: B.APIC_HANDLER });
    rig.toExit();
    assertFive(words(rig.pc, 1)[0]!);
  },

  async "a level that stays asks again after each end of interrupt, one that has fallen does not"(board) {
    using rig = await BoardRig.open(board);
    rig.long(B.LEVEL, { [TIMER]: B.LEVEL_HANDLER });
    rig.toExit();
    // Three interrupts, and the third found the transmitter's: IIR with FIFOs off is 2.
    assertEquals(words(rig.pc, 2), [3, 2]);
  },

  async "a message-signalled interrupt wakes HLT, with the vector of its data"(board) {
    using rig = await BoardRig.open(board);
    rig.long(B.WAIT_FOR_MESSAGE, { [TIMER]: B.APIC_HANDLER });
    rig.run(rig.meanwhile(({ router }) => router.send(MSI_TO_FIRST, 0, TIMER)));
    assertEquals([rig.pc.control.endCode, ...words(rig.pc, 1)], [21, 1]);
  },

  async "a message that asks for an NMI is one"(board) {
    using rig = await BoardRig.open(board);
    rig.long(B.WAIT_FOR_NMI, { [NMI]: B.APIC_HANDLER });
    rig.run(rig.meanwhile(({ router }) => router.send(MSI_TO_FIRST, 0, AS_NMI)));
    assertEquals([rig.pc.control.endCode, ...words(rig.pc, 1)], [21, 1]);
  },

  async "a processor interrupts itself, by the page and by x2APIC's register"(board) {
    using rig = await BoardRig.open(board);
    rig.long(B.SELF_IPI, { [TIMER]: B.APIC_HANDLER, [SELF]: B.SELF_IPI_HANDLER });
    rig.toExit();
    const [byPage, byMsr, version, id] = words(rig.pc, 4);
    // Version 14h and no fewer entries of the vector table than the six that a timer's APIC has had since the Pentium 4.
    assertEquals([byPage, byMsr, version! & 0xff, id], [1, 1, 0x14, 0]);
    assert(((version! >>> 16) & 0xff) >= 5);
  },

  async "a machine that is stopped and let go again loses no interrupt and makes none up"(board) {
    using rig = await BoardRig.open(board);
    rig.long(B.TICKING, { [TIMER]: B.APIC_HANDLER });
    for (let stops = 1; stops <= 3; stops++) {
      rig.run((port, value) => port === 0x3ff && value >= stops);
      assertEquals(rig.pc.control.endCause, 0);
      checkTicks(rig.pc, stops);
      const { lvtTimer, initialCount, svr, isr } = rig.pc.chips.apics[0]!;
      assertEquals([lvtTimer, initialCount, svr, [...isr]], [0x20030, 2_000_000, 0x1ff, Array(8).fill(0)]);
    }
    rig.toExit();
    checkTicks(rig.pc, 6);
  },
};

/** What TICKING has counted: at least so many, and no more than guest time has room for. */
export function checkTicks({ ram, clock }: Pc, least: number): void {
  const seen = ram.read(DATA, 4), most = Math.floor(clock.nowNs() / 2e6);
  assert(seen >= least && seen <= most, `${seen} ticks, expected ${least} to ${most}`);
}

function words({ ram }: Pc, count: number): number[] {
  return Array.from({ length: count }, (_, i) => ram.read(DATA + 4 * i, 4));
}
