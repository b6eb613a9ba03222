/** Network objects of macOS 26: configurations, networks made of them, interfaces on those. */
import { vmnet_mode_t, vmnet_return_t as R } from "../../../ffi/vmnet.ts";
import { Handles } from "../arm64/shared.ts";
import { viewOf } from "../host.ts";
import { put32, put8 } from "../out.ts";
import type { Functions } from "../thread.ts";
import type { Interfaces } from "./interfaces.ts";
import { TYPE, Xpc } from "./xpc.ts";

interface Configuration {
  readonly mode: number;
  subnet: Uint8Array;
  mask: Uint8Array;
  prefix: Uint8Array;
  readonly off: Set<string>;
  readonly rules: Set<string>;
  readonly reservations: Map<string, string>;
  mtu: number;
}
interface Network {
  readonly id: bigint;
  readonly configuration: Configuration;
}

/** What may be asked of an interface that has its network from an object. */
const ALLOWED = ["allocate_mac_address", "enable_tso", "enable_isolation", "enable_checksum_offload", "operation_mode"];
const ALL_KEYS = ["mtu", "start_address", "end_address", "subnet_mask", "network_identifier", "shared_interface_name"];
const AF_INET = 2, AF_INET6 = 30, TCP = 6, UDP = 17;

export function networkFunctions(interfaces: Interfaces): Functions {
  const configurations = new Handles<Configuration>(5), networks = new Handles<Network>(6);
  let next = 1n;
  const bytes = (address: bigint, n: number) => new Uint8Array(viewOf(address, n)).slice();
  const store = (address: bigint, value: Uint8Array) => new Uint8Array(viewOf(address, value.length)).set(value);
  const change = (handle: bigint, body: (c: Configuration) => number) => {
    const configuration = configurations.get(handle);
    return configuration ? body(configuration) : R.VMNET_INVALID_ARGUMENT;
  };
  const disable = (what: string) => (handle: bigint) => void configurations.get(handle)?.off.add(what);
  const createNetwork = (configuration: Configuration, status: bigint) => {
    put32(status, R.VMNET_SUCCESS);
    return networks.add({ id: (1n << 62n) + next++, configuration });
  };
  const isPrivate = (a: Uint8Array) =>
    a[0] === 10 || (a[0] === 192 && a[1] === 168) || (a[0] === 172 && a[1]! >= 16 && a[1]! < 32);

  return {
    vmnet_network_configuration_create: (mode: number, status: bigint) => {
      const fits = mode === vmnet_mode_t.VMNET_HOST_MODE || mode === vmnet_mode_t.VMNET_SHARED_MODE;
      put32(status, fits ? R.VMNET_SUCCESS : R.VMNET_INVALID_ARGUMENT);
      if (!fits) return 0n;
      return configurations.add({
        mode,
        subnet: Uint8Array.of(192, 168, 64 + Number(next % 100n), 0),
        mask: Uint8Array.of(255, 255, 255, 0),
        prefix: Uint8Array.of(0xfd, ...crypto.getRandomValues(new Uint8Array(7)), ...new Uint8Array(8), 64),
        off: new Set(),
        rules: new Set(),
        reservations: new Map(),
        mtu: 1500,
      });
    },
    vmnet_network_create: (handle: bigint, status: bigint) => {
      const configuration = configurations.get(handle);
      if (configuration) return createNetwork(configuration, status);
      put32(status, R.VMNET_INVALID_ARGUMENT);
      return 0n;
    },
    vmnet_network_get_ipv4_subnet: (handle: bigint, subnet: bigint, mask: bigint) => {
      const network = networks.get(handle);
      if (!network) return;
      store(subnet, network.configuration.subnet);
      store(mask, network.configuration.mask);
    },
    vmnet_network_get_ipv6_prefix: (handle: bigint, prefix: bigint, length: bigint) => {
      const network = networks.get(handle);
      if (!network) return;
      store(prefix, network.configuration.prefix.subarray(0, 16));
      put8(length, network.configuration.prefix[16]!);
    },
    vmnet_network_copy_serialization: (handle: bigint, status: bigint) => {
      const known = networks.get(handle) !== undefined;
      put32(status, known ? R.VMNET_SUCCESS : R.VMNET_INVALID_ARGUMENT);
      return known ? Xpc.dictionary({ network: handle }) : 0n;
    },
    vmnet_network_create_with_serialization: (object: bigint, status: bigint) => {
      const network = Xpc.isDictionary(object) ? networks.get(Xpc.uint64(object, "network")) : undefined;
      put32(status, network ? R.VMNET_SUCCESS : R.VMNET_INVALID_ARGUMENT);
      return network ? networks.add(network) : 0n;
    },
    vmnet_interface_start_with_network: (handle: bigint, desc: bigint, queue: bigint, block: bigint) => {
      const network = networks.get(handle);
      if (!network || !Xpc.isDictionary(desc)) return 0n;
      const types = Object.values(TYPE);
      const foreign = ALL_KEYS.some((key) => types.some((type) => Xpc.value(desc, `vmnet_${key}`, type) !== 0n));
      if (foreign) return 0n;
      const own = Xpc.dictionary({ vmnet_operation_mode: BigInt(network.configuration.mode) });
      for (const key of ALLOWED) {
        const value = Xpc.value(desc, `vmnet_${key}`, TYPE.BOOL);
        if (value !== 0n) Xpc.set(own, `vmnet_${key}`, bytes(value, 1)[0] !== 0);
      }
      const started = interfaces.start(own, queue, block, network.id);
      Xpc.release(own);
      return started;
    },
    vmnet_network_configuration_set_external_interface: (handle: bigint, name: bigint) =>
      change(
        handle,
        (c) => c.mode === vmnet_mode_t.VMNET_SHARED_MODE && name !== 0n ? R.VMNET_SUCCESS : R.VMNET_INVALID_ARGUMENT,
      ),
    vmnet_network_configuration_disable_nat44: disable("nat44"),
    vmnet_network_configuration_disable_nat66: disable("nat66"),
    vmnet_network_configuration_disable_dhcp: disable("dhcp"),
    vmnet_network_configuration_disable_dns_proxy: disable("dns"),
    vmnet_network_configuration_disable_router_advertisement: disable("ra"),
    vmnet_network_configuration_set_ipv4_subnet: (handle: bigint, subnet: bigint, mask: bigint) =>
      change(handle, (c) => {
        const s = bytes(subnet, 4), m = bytes(mask, 4);
        if (!isPrivate(s) || s.some((byte, i) => byte & ~m[i]!)) return R.VMNET_INVALID_ARGUMENT;
        c.subnet = s;
        c.mask = m;
        return R.VMNET_SUCCESS;
      }),
    vmnet_network_configuration_set_ipv6_prefix: (handle: bigint, prefix: bigint, length: number) =>
      change(handle, (c) => {
        const p = bytes(prefix, 16);
        if (p[0] !== 0xfd || length !== 64) return R.VMNET_INVALID_ARGUMENT;
        c.prefix = Uint8Array.of(...p, length);
        return R.VMNET_SUCCESS;
      }),
    /** The port inside first, unlike the function of interfaces. */
    vmnet_network_configuration_add_port_forwarding_rule: (
      handle: bigint,
      protocol: number,
      family: number,
      internal: number,
      external: number,
      address: bigint,
    ) =>
      change(handle, (c) => {
        const fits = [TCP, UDP].includes(protocol) && [AF_INET, AF_INET6].includes(family) && address !== 0n;
        const key = `${protocol} ${family} ${external}`;
        if (!fits || internal === 0 || external === 0 || c.rules.has(key)) return R.VMNET_INVALID_ARGUMENT;
        c.rules.add(key);
        return R.VMNET_SUCCESS;
      }),
    vmnet_network_configuration_add_dhcp_reservation: (handle: bigint, mac: bigint, address: bigint) =>
      change(handle, (c) => {
        const a = bytes(address, 4);
        if (a.some((byte, i) => (byte & c.mask[i]!) !== c.subnet[i])) return R.VMNET_INVALID_ARGUMENT;
        c.reservations.set(bytes(mac, 6).join(":"), a.join("."));
        return R.VMNET_SUCCESS;
      }),
    vmnet_network_configuration_set_mtu: (handle: bigint, mtu: number) =>
      change(handle, (c) => {
        if (mtu < 1280 || mtu > 9000) return R.VMNET_INVALID_ARGUMENT;
        c.mtu = mtu;
        return R.VMNET_SUCCESS;
      }),
  };
}
