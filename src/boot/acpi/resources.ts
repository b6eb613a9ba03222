/**
 * Resource templates: what a device decodes and which interrupts it uses.
 *
 * Spec: [acpi §6.4] resource data types; functions are named after the ASL macros.
 */
import { type Aml, buffer, join, le } from "./aml.ts";

export type Resource = Uint8Array;

/** A buffer of descriptors and the end tag, whose checksum of zero means that there is none. [acpi §6.4.2.9] */
export function resourceTemplate(...resources: readonly Resource[]): Aml {
  return buffer(join(...resources, 0x79, 0));
}

/** `length` ports from `base`, decoded in 16 bits. [acpi §6.4.2.5] */
export function io(base: number, length: number): Resource {
  return join(0x47, 1, le(base, 2), le(base, 2), 1, length);
}

/** ISA interrupts, edge-triggered, active high, exclusive. [acpi §6.4.2.1] */
export function irqNoFlags(...irqs: readonly number[]): Resource {
  return join(0x22, le(irqs.reduce((mask, n) => mask | (1 << n), 0), 2));
}

export interface Trigger {
  readonly level: boolean;
  readonly activeLow: boolean;
  readonly shared: boolean;
}

/** ISA interrupts with their trigger. [acpi §6.4.2.1] */
export function irq(trigger: Trigger, ...irqs: readonly number[]): Resource {
  const flags = (trigger.level ? 0 : 1) | (trigger.activeLow ? 1 << 3 : 0) | (trigger.shared ? 1 << 4 : 0);
  return join(0x23, le(irqs.reduce((mask, n) => mask | (1 << n), 0), 2), flags);
}

/** Global system interrupts that a device uses. [acpi §6.4.3.6] */
export function interrupt(trigger: Trigger, ...gsis: readonly number[]): Resource {
  const flags = 1 | (trigger.level ? 0 : 1 << 1) | (trigger.activeLow ? 1 << 2 : 0) | (trigger.shared ? 1 << 3 : 0);
  return join(0x89, le(2 + 4 * gsis.length, 2), flags, gsis.length, ...gsis.map((n) => le(n, 4)));
}

/** Memory at a fixed place. [acpi §6.4.3.4] */
export function memory32Fixed(base: number, length: number, writable: boolean): Resource {
  return join(0x86, le(9, 2), writable ? 1 : 0, le(base, 4), le(length, 4));
}

/** What an address space descriptor is of. */
const Space = { MEMORY: 0, IO: 1, BUS: 2 } as const;
/** A window that a bridge passes on, both its ends fixed, decoded positively. [acpi §6.4.3.5] */
const WINDOW = (1 << 2) | (1 << 3);
const READ_WRITE = 1;
const ENTIRE_RANGE = 3;

function addressSpace(tag: number, size: number, space: number, flags: number, base: number, length: number): Resource {
  const [granularity, translation] = [0, 0];
  const numbers = [granularity, base, base + length - 1, translation, length].map((n) => le(n, size));
  return join(tag, le(3 + 5 * size, 2), space, WINDOW, flags, ...numbers);
}

/** Bus numbers. */
export function wordBusNumber(base: number, length: number): Resource {
  return addressSpace(0x88, 2, Space.BUS, 0, base, length);
}

/** Ports. A window of all 64 Ki of them cannot be told: its length does not fit. */
export function wordIo(base: number, length: number): Resource {
  return addressSpace(0x88, 2, Space.IO, ENTIRE_RANGE, base, length);
}

/** Memory below 4 GiB, neither cacheable nor prefetchable. */
export function dwordMemory(base: number, length: number): Resource {
  return addressSpace(0x87, 4, Space.MEMORY, READ_WRITE, base, length);
}

/** Memory anywhere. */
export function qwordMemory(base: number, length: number): Resource {
  return addressSpace(0x8a, 8, Space.MEMORY, READ_WRITE, base, length);
}
