/** The VM of Apple silicon: its configuration and its memory. */
import { createShared, mapShared, unmap } from "../host.ts";
import { put32, put64, put8 } from "../out.ts";
import type { Functions } from "../thread.ts";
import { HV } from "./codes.ts";
import { Handles, HOST_PAGE, MAX_VCPUS, type Shared, W } from "./shared.ts";

interface VmConfig {
  ipaBits: number;
  granule: number;
  el2: boolean;
}
const DEFAULT_IPA_BITS = 36, MAX_IPA_BITS = 40, MIN_IPA_BITS = 32;
const GRANULE_16KB = 1, MEMORY_FLAGS = 7n, SMALL_PAGE = 4096n;

export function vmFunctions(shared: Shared, configs: Handles<VmConfig>): Functions {
  const { words } = shared;
  const done = (written: boolean) => written ? HV.SUCCESS : HV.BAD_ARGUMENT;
  const withConfig = (handle: bigint, body: (config: VmConfig) => number) => {
    const config = configs.get(handle);
    return config ? body(config) : HV.BAD_ARGUMENT;
  };
  /** Guest addresses are as fine as the granule, host addresses as the host's pages. */
  const range = (ipa: bigint, size: bigint, flags = 0n): number => {
    if (!shared.hasVm) return HV.ERROR;
    const page = words[W.GRANULE] === GRANULE_16KB ? HOST_PAGE : SMALL_PAGE;
    if (ipa % page !== 0n || size === 0n || size % page !== 0n || flags & ~MEMORY_FLAGS) return HV.BAD_ARGUMENT;
    return ipa + size <= 1n << BigInt(words[W.IPA_BITS]!) ? HV.SUCCESS : HV.BAD_ARGUMENT;
  };
  /** Cuts [ipa, end) out of what is mapped, or gives it other rights; false if not all of it is mapped. */
  const change = (ipa: bigint, size: bigint, flags: bigint | null): number => {
    const end = ipa + size;
    let covered = 0n;
    const next: bigint[][] = [];
    for (const [from, length, host, was] of shared.mappings()) {
      const to = from + length, low = ipa > from ? ipa : from, high = end < to ? end : to;
      if (low >= high) {
        next.push([from, length, host, was]);
        continue;
      }
      covered += high - low;
      if (low > from) next.push([from, low - from, host, was]);
      if (flags !== null) next.push([low, high - low, host + low - from, flags]);
      if (high < to) next.push([high, to - high, host + high - from, was]);
    }
    if (covered !== size) return HV.BAD_ARGUMENT;
    return shared.setMappings(next) ? HV.SUCCESS : HV.NO_RESOURCES;
  };

  return {
    hv_vm_get_max_vcpu_count: (out: bigint) => done(put32(out, MAX_VCPUS)),
    hv_vm_create: (handle: bigint) => {
      const config = handle === 0n ? null : configs.get(handle);
      if (config === undefined) return HV.BAD_ARGUMENT;
      if (Atomics.compareExchange(words, W.VM, 0, 1) !== 0) return HV.BUSY;
      words[W.IPA_BITS] = config?.ipaBits ?? DEFAULT_IPA_BITS;
      words[W.GRANULE] = config?.granule ?? GRANULE_16KB;
      words[W.EL2] = config?.el2 ? 1 : 0;
      return HV.SUCCESS;
    },
    hv_vm_destroy: () => {
      if (!shared.hasVm) return HV.ERROR;
      return shared.locked(() => {
        if (shared.vcpus() > 0) return HV.BUSY;
        words.fill(0, W.VM);
        return HV.SUCCESS;
      });
    },
    hv_vm_map: (host: bigint, ipa: bigint, size: bigint, flags: bigint) => {
      const wrong = range(ipa, size, flags);
      if (wrong !== HV.SUCCESS) return wrong;
      if (host === 0n || host % HOST_PAGE !== 0n || size % HOST_PAGE !== 0n) return HV.BAD_ARGUMENT;
      return shared.locked(() => {
        const list = shared.mappings();
        if (list.some(([from, length]) => ipa < from + length && from < ipa + size)) return HV.EXISTS;
        return shared.setMappings([...list, [ipa, size, host, flags]]) ? HV.SUCCESS : HV.NO_RESOURCES;
      });
    },
    hv_vm_unmap: (ipa: bigint, size: bigint) => range(ipa, size) || shared.locked(() => change(ipa, size, null)),
    hv_vm_protect: (ipa: bigint, size: bigint, flags: bigint) =>
      range(ipa, size, flags) || shared.locked(() => change(ipa, size, flags)),
    hv_vm_allocate: (out: bigint, size: bigint, flags: bigint) => {
      if (size === 0n || size % HOST_PAGE !== 0n || flags !== 0n || out === 0n) return HV.BAD_ARGUMENT;
      // One page more than asked for, so that the host's smaller pages can be aligned to those of a Mac.
      const at = mapShared(createShared(Number(size + HOST_PAGE)), 0, Number(size + HOST_PAGE));
      return done(put64(out, (at + HOST_PAGE - 1n) / HOST_PAGE * HOST_PAGE));
    },
    hv_vm_deallocate: (host: bigint, size: bigint) => {
      if (host === 0n || host % HOST_PAGE !== 0n || size === 0n) return HV.BAD_ARGUMENT;
      unmap(host, Number(size));
      return HV.SUCCESS;
    },
    hv_vm_config_create: () => configs.add({ ipaBits: DEFAULT_IPA_BITS, granule: GRANULE_16KB, el2: false }),
    hv_vm_config_get_max_ipa_size: (out: bigint) => done(put32(out, MAX_IPA_BITS)),
    hv_vm_config_get_default_ipa_size: (out: bigint) => done(put32(out, DEFAULT_IPA_BITS)),
    hv_vm_config_set_ipa_size: (handle: bigint, bits: number) =>
      withConfig(handle, (config) => {
        if (bits < MIN_IPA_BITS || bits > MAX_IPA_BITS) return HV.BAD_ARGUMENT;
        config.ipaBits = bits;
        return HV.SUCCESS;
      }),
    hv_vm_config_get_ipa_size: (handle: bigint, out: bigint) =>
      withConfig(handle, (config) => done(put32(out, config.ipaBits))),
    hv_vm_config_get_el2_supported: (out: bigint) => done(put8(out, true)),
    hv_vm_config_get_el2_enabled: (handle: bigint, out: bigint) =>
      withConfig(handle, (config) => done(put8(out, config.el2))),
    hv_vm_config_set_el2_enabled: (handle: bigint, on: boolean) =>
      withConfig(handle, (config) => {
        config.el2 = on;
        return HV.SUCCESS;
      }),
    hv_vm_config_get_default_ipa_granule: (out: bigint) => done(put32(out, GRANULE_16KB)),
    hv_vm_config_get_ipa_granule: (handle: bigint, out: bigint) =>
      withConfig(handle, (config) => done(put32(out, config.granule))),
    hv_vm_config_set_ipa_granule: (handle: bigint, granule: number) =>
      withConfig(handle, (config) => {
        if (granule > GRANULE_16KB) return HV.BAD_ARGUMENT;
        config.granule = granule;
        return HV.SUCCESS;
      }),
  };
}

export const newVmConfigs = (): Handles<VmConfig> => new Handles<VmConfig>(1);
