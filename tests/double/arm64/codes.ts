/** What functions of Hypervisor.framework return on Apple silicon, as unsigned numbers. */
export const HV = {
  SUCCESS: 0,
  ERROR: 0xfae9_4001,
  BUSY: 0xfae9_4002,
  BAD_ARGUMENT: 0xfae9_4003,
  ILLEGAL_GUEST_STATE: 0xfae9_4004,
  NO_RESOURCES: 0xfae9_4005,
  NO_DEVICE: 0xfae9_4006,
  DENIED: 0xfae9_4007,
  EXISTS: 0xfae9_4008,
  UNSUPPORTED: 0xfae9_400f,
} as const;
