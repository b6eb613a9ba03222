/**
 * vmnet.framework of macOS, and what of libSystem it takes to call it: queues, dictionaries, blocks. C names, no policy.
 *
 * Functions newer than macOS 11 are null where they are missing. A structure is an object of offsets in bytes, with its size as
 * SIZEOF. Ports are in the host's byte order, addresses in the network's.
 */

/** Not on disk: it lives in the cache of the dynamic linker. */
export const VMNET_PATH = "/System/Library/Frameworks/vmnet.framework/vmnet";

export const VMNET_SYMBOLS = {
  vmnet_start_interface: { parameters: ["pointer", "pointer", "pointer"], result: "pointer" },
  vmnet_interface_set_event_callback: { parameters: ["pointer", "u32", "pointer", "pointer"], result: "u32" },
  vmnet_read: { parameters: ["pointer", "buffer", "buffer"], result: "u32" },
  vmnet_write: { parameters: ["pointer", "buffer", "buffer"], result: "u32" },
  vmnet_stop_interface: { parameters: ["pointer", "pointer", "pointer"], result: "u32" },
  vmnet_copy_shared_interface_list: { parameters: [], result: "pointer" },
  vmnet_interface_add_ip_port_forwarding_rule: {
    parameters: ["pointer", "u8", "u16", "u8", "buffer", "u16", "pointer"],
    result: "u32",
  },
  vmnet_interface_remove_ip_port_forwarding_rule: {
    parameters: ["pointer", "u8", "u16", "u8", "pointer"],
    result: "u32",
  },
  vmnet_interface_get_ip_port_forwarding_rules: { parameters: ["pointer", "u8", "pointer"], result: "u32" },
  vmnet_ip_port_forwarding_rule_get_details: {
    parameters: ["pointer", "buffer", "buffer", "u8", "buffer", "buffer"],
    result: "u32",
  },
  vmnet_network_configuration_create: { parameters: ["u32", "buffer"], result: "pointer", optional: true },
  vmnet_network_create: { parameters: ["pointer", "buffer"], result: "pointer", optional: true },
  vmnet_network_get_ipv4_subnet: { parameters: ["pointer", "buffer", "buffer"], result: "void", optional: true },
  vmnet_network_get_ipv6_prefix: { parameters: ["pointer", "buffer", "buffer"], result: "void", optional: true },
  vmnet_network_copy_serialization: { parameters: ["pointer", "buffer"], result: "pointer", optional: true },
  vmnet_network_create_with_serialization: { parameters: ["pointer", "buffer"], result: "pointer", optional: true },
  vmnet_interface_start_with_network: {
    parameters: ["pointer", "pointer", "pointer", "pointer"],
    result: "pointer",
    optional: true,
  },
  vmnet_network_configuration_set_external_interface: {
    parameters: ["pointer", "buffer"],
    result: "u32",
    optional: true,
  },
  vmnet_network_configuration_disable_nat44: { parameters: ["pointer"], result: "void", optional: true },
  vmnet_network_configuration_disable_nat66: { parameters: ["pointer"], result: "void", optional: true },
  vmnet_network_configuration_disable_dhcp: { parameters: ["pointer"], result: "void", optional: true },
  vmnet_network_configuration_disable_dns_proxy: { parameters: ["pointer"], result: "void", optional: true },
  vmnet_network_configuration_disable_router_advertisement: { parameters: ["pointer"], result: "void", optional: true },
  vmnet_network_configuration_set_ipv4_subnet: {
    parameters: ["pointer", "buffer", "buffer"],
    result: "u32",
    optional: true,
  },
  vmnet_network_configuration_set_ipv6_prefix: {
    parameters: ["pointer", "buffer", "u8"],
    result: "u32",
    optional: true,
  },
  vmnet_network_configuration_add_port_forwarding_rule: {
    parameters: ["pointer", "u8", "u8", "u16", "u16", "buffer"],
    result: "u32",
    optional: true,
  },
  vmnet_network_configuration_add_dhcp_reservation: {
    parameters: ["pointer", "buffer", "buffer"],
    result: "u32",
    optional: true,
  },
  vmnet_network_configuration_set_mtu: { parameters: ["pointer", "u32"], result: "u32", optional: true },
} as const satisfies Deno.ForeignLibraryInterface;

export const LIBSYSTEM_PATH = "/usr/lib/libSystem.B.dylib";

export const LIBSYSTEM_SYMBOLS = {
  dispatch_queue_create: { parameters: ["buffer", "pointer"], result: "pointer" },
  dispatch_release: { parameters: ["pointer"], result: "void" },
  dispatch_get_global_queue: { parameters: ["isize", "usize"], result: "pointer" },
  dispatch_semaphore_create: { parameters: ["isize"], result: "pointer" },
  dispatch_semaphore_wait: { parameters: ["pointer", "u64"], result: "isize" },
  dispatch_semaphore_signal: { parameters: ["pointer"], result: "isize" },
  dispatch_time: { parameters: ["u64", "i64"], result: "u64" },
  xpc_dictionary_create: { parameters: ["pointer", "pointer", "usize"], result: "pointer" },
  xpc_dictionary_set_uint64: { parameters: ["pointer", "buffer", "u64"], result: "void" },
  xpc_dictionary_set_string: { parameters: ["pointer", "buffer", "buffer"], result: "void" },
  xpc_dictionary_set_bool: { parameters: ["pointer", "buffer", "bool"], result: "void" },
  xpc_dictionary_set_uuid: { parameters: ["pointer", "buffer", "buffer"], result: "void" },
  xpc_dictionary_get_uint64: { parameters: ["pointer", "buffer"], result: "u64" },
  xpc_dictionary_get_string: { parameters: ["pointer", "buffer"], result: "pointer" },
  xpc_dictionary_get_bool: { parameters: ["pointer", "buffer"], result: "bool" },
  xpc_dictionary_get_uuid: { parameters: ["pointer", "buffer"], result: "pointer" },
  xpc_array_get_count: { parameters: ["pointer"], result: "usize" },
  xpc_array_get_string: { parameters: ["pointer", "usize"], result: "pointer" },
  xpc_retain: { parameters: ["pointer"], result: "void" },
  xpc_release: { parameters: ["pointer"], result: "void" },
  xpc_copy_description: { parameters: ["pointer"], result: "pointer" },
  /** The address of the class, which is what a block's isa holds. */
  _NSConcreteGlobalBlock: { type: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

export const vmnet_mode_t = {
  VMNET_HOST_MODE: 1000,
  VMNET_SHARED_MODE: 1001,
  VMNET_BRIDGED_MODE: 1002,
} as const;

export const vmnet_return_t = {
  VMNET_SUCCESS: 1000,
  VMNET_FAILURE: 1001,
  VMNET_MEM_FAILURE: 1002,
  VMNET_INVALID_ARGUMENT: 1003,
  VMNET_SETUP_INCOMPLETE: 1004,
  VMNET_INVALID_ACCESS: 1005,
  VMNET_PACKET_TOO_BIG: 1006,
  VMNET_BUFFER_EXHAUSTED: 1007,
  VMNET_TOO_MANY_PACKETS: 1008,
  VMNET_SHARING_SERVICE_BUSY: 1009,
  VMNET_NOT_AUTHORIZED: 1010,
} as const;

export const interface_event_t = {
  VMNET_INTERFACE_PACKETS_AVAILABLE: 1,
} as const;

/** Offsets in bytes. */
export const vmpktdesc = {
  vm_pkt_size: 0,
  vm_pkt_iov: 8,
  vm_pkt_iovcnt: 16,
  vm_flags: 20,
  SIZEOF: 24,
} as const;

export const iovec = {
  iov_base: 0,
  iov_len: 8,
  SIZEOF: 16,
} as const;

/** A block without captured variables: isa is the address of _NSConcreteGlobalBlock, and invoke gets the block as its first argument. */
export const Block_literal = {
  isa: 0,
  flags: 8,
  reserved: 12,
  invoke: 16,
  descriptor: 24,
  SIZEOF: 32,
} as const;

export const Block_descriptor = {
  reserved: 0,
  size: 8,
  SIZEOF: 16,
} as const;

export const Block_flags = {
  BLOCK_IS_NOESCAPE: 0x800000,
  BLOCK_NEEDS_FREE: 0x1000000,
  BLOCK_HAS_COPY_DISPOSE: 0x2000000,
  BLOCK_HAS_CTOR: 0x4000000,
  BLOCK_IS_GC: 0x8000000,
  BLOCK_IS_GLOBAL: 0x10000000,
  BLOCK_USE_STRET: 0x20000000,
  BLOCK_HAS_SIGNATURE: 0x40000000,
  BLOCK_HAS_EXTENDED_LAYOUT: 0x80000000,
} as const;

/** What the exported variables of these names point to: keys of the dictionaries. */
export const vmnet_keys = {
  vmnet_operation_mode_key: "vmnet_operation_mode",
  vmnet_shared_interface_name_key: "vmnet_shared_interface_name",
  vmnet_mac_address_key: "vmnet_mac_address",
  vmnet_allocate_mac_address_key: "vmnet_allocate_mac_address",
  vmnet_mtu_key: "vmnet_mtu",
  vmnet_max_packet_size_key: "vmnet_max_packet_size",
  vmnet_interface_id_key: "vmnet_interface_id",
  vmnet_start_address_key: "vmnet_start_address",
  vmnet_end_address_key: "vmnet_end_address",
  vmnet_subnet_mask_key: "vmnet_subnet_mask",
  vmnet_nat66_prefix_key: "vmnet_nat66_prefix",
  vmnet_estimated_packets_available_key: "vmnet_estimated_packets_available",
  vmnet_network_identifier_key: "vmnet_network_identifier",
  vmnet_host_ip_address_key: "vmnet_host_ip_address",
  vmnet_host_subnet_mask_key: "vmnet_host_subnet_mask",
  vmnet_host_ipv6_address_key: "vmnet_host_ipv6_address",
  vmnet_enable_tso_key: "vmnet_enable_tso",
  vmnet_enable_isolation_key: "vmnet_enable_isolation",
  vmnet_enable_checksum_offload_key: "vmnet_enable_checksum_offload",
  vmnet_enable_virtio_header_key: "vmnet_enable_virtio_header",
  vmnet_read_max_packets_key: "vmnet_read_max_packets",
  vmnet_write_max_packets_key: "vmnet_write_max_packets",
} as const;
