/**
 * The chipset's ways to reset the machine, and its fast A20 gate: ports CF9h and 92h.
 *
 * Spec: [ich9 §13.7.5] RST_CNT, [ich9 §13.7.3] PORT92.
 * Emulated: RST_CPU and FULL_RST, INIT_NOW, ALT_A20_GATE.
 * Absent: a difference between a CPU-only and a system reset: each resets the machine.
 */
import { type Region, registerBank } from "../src/base/bus.ts";
import type { IrqLine } from "../src/base/irq.ts";
import { record, type View } from "../src/base/record.ts";

/** Within the ports of PCI configuration: only byte accesses to this port are the register's. */
export const RESET_PORT = 0xcf9;
export const RESET_VALUE = 0x06; // SYS_RST and RST_CPU, for FADT.RESET_VALUE
export const PORT92 = 0x92;

export const RESET_REGISTERS = { RST_CNT: { at: 0, width: 1, access: "rw" } } as const;
export const PORT92_REGISTERS = { PORT92: { at: 0, width: 1, access: "rw" } } as const;

const RST_CNT = { SYS_RST: 1 << 1, RST_CPU: 1 << 2, FULL_RST: 1 << 3 } as const;
const PORT92_BITS = { INIT_NOW: 1 << 0, ALT_A20_GATE: 1 << 1 } as const;

export const ResetControlRecord = record("reset-control", 1, {
  rstCnt: { type: "u8", max: RST_CNT.SYS_RST | RST_CNT.FULL_RST },
  port92: { type: "u8", max: PORT92_BITS.INIT_NOW | PORT92_BITS.ALT_A20_GATE },
});

interface Parts {
  readonly onReset: () => void;
  /** The fast gate's wish; the keyboard controller's is another, and either opens A20. */
  readonly a20: IrqLine;
}

export class ResetControl {
  readonly reset: Region;
  readonly port92: Region;

  constructor(private readonly s: View<typeof ResetControlRecord>, private readonly parts: Parts) {
    this.reset = registerBank<typeof RESET_REGISTERS>({
      registers: RESET_REGISTERS,
      readRegister: () => s.rstCnt,
      writeRegister: (_name, value) => {
        // A rise of RST_CPU resets; as that ends with the bit clear, each one written is a rise.
        s.rstCnt = value & (RST_CNT.SYS_RST | RST_CNT.FULL_RST);
        if (value & RST_CNT.RST_CPU) parts.onReset();
      },
    });
    this.port92 = registerBank<typeof PORT92_REGISTERS>({
      registers: PORT92_REGISTERS,
      readRegister: () => s.port92,
      writeRegister: (_name, value) => {
        const rose = (value & ~s.port92 & PORT92_BITS.INIT_NOW) !== 0;
        s.port92 = value & (PORT92_BITS.INIT_NOW | PORT92_BITS.ALT_A20_GATE);
        this.settle();
        if (rose) parts.onReset();
      },
    });
  }

  settle(): void {
    this.parts.a20.set((this.s.port92 & PORT92_BITS.ALT_A20_GATE) !== 0);
  }
}
