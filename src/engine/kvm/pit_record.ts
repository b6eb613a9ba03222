/**
 * The 8254 between the board's record and KVM's structure, both ways. KVM counts from the moment it is given a count, so that a
 * period under way starts again when it takes over.
 */
import { I8254_HZ } from "../../../devices/i8254.ts";
import * as K from "../../../ffi/kvm.ts";
import type { ChipRecords } from "../engine.ts";

type Pit = ChipRecords["pit"];
const C = K.kvm_pit_channel_state;
/** As the record has them. */
const IDLE = 0, WAITING = 1, COUNTING = 2, HELD = 3;
const TICK_BIAS = 2 ** 20;
/** What KVM takes for a channel that has no count yet: no timer runs. */
const NO_MODE = 0xff;
/** KVM's states of a register that takes two bytes: low, high, low first, then high. */
const LSB = 1, MSB = 2, WORD0 = 3, WORD1 = 4;
/** Port 61h. */
const GATE = 1, SPEAKER = 2;

export function pitToKvm(pit: Pit, dv: DataView): void {
  for (let ch = 0; ch < 3; ch++) {
    const at = K.kvm_pit_state2.channels + ch * C.SIZEOF;
    const control = pit.control[ch]!, access = (control >> 4) & 3;
    const idle = pit.phase[ch] === IDLE;
    const half = (second: number) => access === 1 ? LSB : access === 2 ? MSB : second ? WORD1 : WORD0;
    dv.setUint32(at + C.count, pit.initial[ch]!, true);
    dv.setUint16(at + C.latched_count, pit.latch[ch]!, true);
    dv.setUint8(at + C.count_latched, pit.latched[ch] ? half(pit.readHigh[ch]!) : 0);
    dv.setUint8(at + C.status_latched, pit.statusLatched[ch]!);
    dv.setUint8(at + C.status, pit.status[ch]!);
    dv.setUint8(at + C.read_state, half(pit.readHigh[ch]!));
    dv.setUint8(at + C.write_state, half(pit.writeHigh[ch]!));
    dv.setUint8(at + C.write_latch, pit.crLow[ch]!);
    dv.setUint8(at + C.rw_mode, access || 3);
    const mode = (control >> 1) & 7;
    dv.setUint8(at + C.mode, idle ? NO_MODE : mode > 5 ? mode - 4 : mode);
    dv.setUint8(at + C.bcd, control & 1);
    dv.setUint8(at + C.gate, ch === 2 ? pit.port61 & GATE : 1);
    dv.setBigInt64(at + C.count_load_time, 0n, true);
  }
  dv.setUint32(K.kvm_pit_state2.flags, pit.port61 & SPEAKER ? K.KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0, true);
}

/** `nowNs` is guest time, `hostNs` the host's monotonic clock at the same moment. */
export function pitFromKvm(pit: Pit, dv: DataView, nowNs: number, hostNs: number): void {
  const now = Math.floor(nowNs * I8254_HZ / 1e9) + TICK_BIAS;
  const gate = dv.getUint8(K.kvm_pit_state2.channels + 2 * C.SIZEOF + C.gate) ? GATE : 0;
  const speaker = dv.getUint32(K.kvm_pit_state2.flags, true) & K.KVM_PIT_FLAGS_SPEAKER_DATA_ON ? SPEAKER : 0;
  pit.port61 = gate | speaker;
  for (let ch = 0; ch < 3; ch++) {
    const at = K.kvm_pit_state2.channels + ch * C.SIZEOF;
    const mode = dv.getUint8(at + C.mode), none = mode > 5;
    const count = Math.min(65_536, Math.max(1, dv.getUint32(at + C.count, true)));
    pit.control[ch] = ((dv.getUint8(at + C.rw_mode) & 3 || 3) << 4) | ((none ? 0 : mode) << 1) |
      (dv.getUint8(at + C.bcd) ? 1 : 0);
    pit.initial[ch] = count;
    pit.cr[ch] = count & 0xffff;
    pit.crLow[ch] = dv.getUint8(at + C.write_latch);
    pit.writeHigh[ch] = dv.getUint8(at + C.write_state) === WORD1 ? 1 : 0;
    pit.readHigh[ch] = dv.getUint8(at + C.read_state) === WORD1 ? 1 : 0;
    pit.latch[ch] = dv.getUint16(at + C.latched_count, true);
    pit.latched[ch] = dv.getUint8(at + C.count_latched) ? 1 : 0;
    pit.status[ch] = dv.getUint8(at + C.status);
    pit.statusLatched[ch] = dv.getUint8(at + C.status_latched) ? 1 : 0;
    pit.fresh[ch] = 0;
    pit.switchTick[ch] = 0;
    pit.ce[ch] = count;
    const elapsedNs = Math.max(0, hostNs - Number(dv.getBigInt64(at + C.count_load_time, true)));
    const elapsed = Math.floor(elapsedNs * I8254_HZ / 1e9);
    const closed = ch === 2 && !gate;
    pit.phase[ch] = none ? IDLE : !closed ? COUNTING : mode === 0 || mode === 4 ? HELD : WAITING;
    // A cycle that began before the machine did begins at its last turn.
    const periodic = mode === 2 || mode === 3;
    const since = periodic ? elapsed % Math.max(2, count) : elapsed;
    pit.startTick[ch] = none ? 0 : Math.max(0, now - since);
    pit.held[ch] = pit.phase[ch] === HELD ? since : 0;
  }
  pit.seenTick = now;
}
