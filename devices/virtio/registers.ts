/**
 * The registers and constants of the modern PCI transport. Spec: [virtio §2.1], [virtio §2.2], [virtio §4.1], [virtio §6].
 */

/** The common configuration structure [virtio §4.1.4.3]. 64-bit fields are two registers. */
export const VIRTIO_COMMON = {
  device_feature_select: { at: 0x00, width: 4, access: "rw" },
  device_feature: { at: 0x04, width: 4, access: "ro" },
  driver_feature_select: { at: 0x08, width: 4, access: "rw" },
  driver_feature: { at: 0x0c, width: 4, access: "rw" },
  config_msix_vector: { at: 0x10, width: 2, access: "rw" },
  num_queues: { at: 0x12, width: 2, access: "ro" },
  device_status: { at: 0x14, width: 1, access: "rw" },
  config_generation: { at: 0x15, width: 1, access: "ro" },
  queue_select: { at: 0x16, width: 2, access: "rw" },
  queue_size: { at: 0x18, width: 2, access: "rw" },
  queue_msix_vector: { at: 0x1a, width: 2, access: "rw" },
  queue_enable: { at: 0x1c, width: 2, access: "rw" },
  queue_notify_off: { at: 0x1e, width: 2, access: "ro" },
  queue_desc_lo: { at: 0x20, width: 4, access: "rw" },
  queue_desc_hi: { at: 0x24, width: 4, access: "rw" },
  queue_driver_lo: { at: 0x28, width: 4, access: "rw" },
  queue_driver_hi: { at: 0x2c, width: 4, access: "rw" },
  queue_device_lo: { at: 0x30, width: 4, access: "rw" },
  queue_device_hi: { at: 0x34, width: 4, access: "rw" },
} as const;

export const DEVICE_STATUS = {
  ACKNOWLEDGE: 1,
  DRIVER: 2,
  DRIVER_OK: 4,
  FEATURES_OK: 8,
  DEVICE_NEEDS_RESET: 64,
  FAILED: 128,
} as const;

/** Feature bits of every device, by number. */
export const FEATURE = { RING_INDIRECT_DESC: 28, RING_EVENT_IDX: 29, VERSION_1: 32 } as const;

export const ISR = { QUEUE: 1, CONFIG: 2 } as const;

/** What lies where: BAR 0 holds the virtio structures, BAR 1 the MSI-X table. */
export const LAYOUT = { COMMON: 0x0000, ISR: 0x1000, DEVICE: 0x2000, NOTIFY: 0x3000 } as const;
export const STRUCTURES_BAR = 0;
export const MSIX_BAR = 1;
export const NOTIFY_MULTIPLIER = 4;
export const CFG_TYPE = { COMMON: 1, NOTIFY: 2, ISR: 3, DEVICE: 4, PCI: 5 } as const;
export const CAPABILITY_BYTES = 16;
