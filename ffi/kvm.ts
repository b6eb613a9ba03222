/**
 * KVM's interface for x86-64: request numbers, offsets in structures and constants under their C names. No policy.
 *
 * Each structure is an object of offsets in bytes, with its size as SIZEOF.
 */

export const KVM_PATH = "/dev/kvm";
export const KVM_API_VERSION = 12;

const KVMIO = 0xae;
const NONE = 0, WRITE = 1, READ = 2;
/** The ioctl encoding: direction, size of the argument, type, number. */
function request(direction: number, nr: number, size: number): number {
  return direction * 0x4000_0000 + size * 0x1_0000 + KVMIO * 0x100 + nr;
}
const io = (nr: number) => request(NONE, nr, 0);
const ior = (nr: number, size: number) => request(READ, nr, size);
const iow = (nr: number, size: number) => request(WRITE, nr, size);
const iowr = (nr: number, size: number) => request(READ | WRITE, nr, size);

/** struct kvm_run; members of the union have the exit's name in front. */
export const kvm_run = {
  request_interrupt_window: 0,
  immediate_exit: 1,
  exit_reason: 8,
  ready_for_interrupt_injection: 12,
  if_flag: 13,
  flags: 14,
  cr8: 16,
  apic_base: 24,
  hw_hardware_exit_reason: 32,
  fail_entry_hardware_entry_failure_reason: 32,
  fail_entry_cpu: 40,
  io_direction: 32,
  io_size: 33,
  io_port: 34,
  io_count: 36,
  io_data_offset: 40,
  mmio_phys_addr: 32,
  mmio_data: 40,
  mmio_len: 48,
  mmio_is_write: 52,
  internal_suberror: 32,
  internal_ndata: 36,
  internal_data: 40,
  emulation_failure_flags: 40,
  emulation_failure_insn_size: 48,
  emulation_failure_insn_bytes: 49,
  msr_error: 32,
  msr_reason: 40,
  msr_index: 44,
  msr_data: 48,
  system_event_type: 32,
  eoi_vector: 32,
} as const;

export const KVM_EXIT_IO_IN = 0, KVM_EXIT_IO_OUT = 1;

/** Values of kvm_run.exit_reason. */
export const KVM_EXIT = {
  UNKNOWN: 0,
  EXCEPTION: 1,
  IO: 2,
  HYPERCALL: 3,
  DEBUG: 4,
  HLT: 5,
  MMIO: 6,
  IRQ_WINDOW_OPEN: 7,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  SET_TPR: 11,
  TPR_ACCESS: 12,
  NMI: 16,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
  IOAPIC_EOI: 26,
  X86_RDMSR: 29,
  X86_WRMSR: 30,
} as const;

export const KVM_INTERNAL_ERROR_EMULATION = 1;
export const KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES = 1;

export const kvm_regs = {
  rax: 0,
  rbx: 8,
  rcx: 16,
  rdx: 24,
  rsi: 32,
  rdi: 40,
  rsp: 48,
  rbp: 56,
  r8: 64,
  r9: 72,
  r10: 80,
  r11: 88,
  r12: 96,
  r13: 104,
  r14: 112,
  r15: 120,
  rip: 128,
  rflags: 136,
  SIZEOF: 144,
} as const;

export const kvm_segment = {
  base: 0,
  limit: 8,
  selector: 12,
  type: 14,
  present: 15,
  dpl: 16,
  db: 17,
  s: 18,
  l: 19,
  g: 20,
  avl: 21,
  unusable: 22,
  SIZEOF: 24,
} as const;

export const kvm_dtable = { base: 0, limit: 8, SIZEOF: 16 } as const;

export const kvm_sregs = {
  cs: 0,
  ds: 24,
  es: 48,
  fs: 72,
  gs: 96,
  ss: 120,
  tr: 144,
  ldt: 168,
  gdt: 192,
  idt: 208,
  cr0: 224,
  cr2: 232,
  cr3: 240,
  cr4: 248,
  cr8: 256,
  efer: 264,
  apic_base: 272,
  interrupt_bitmap: 280,
  SIZEOF: 312,
} as const;

export const kvm_fpu = {
  fpr: 0,
  fcw: 128,
  fsw: 130,
  ftwx: 132,
  last_opcode: 134,
  last_ip: 136,
  last_dp: 144,
  xmm: 152,
  mxcsr: 408,
  SIZEOF: 416,
} as const;

export const kvm_debugregs = { db: 0, dr6: 32, dr7: 40, flags: 48, SIZEOF: 128 } as const;
export const kvm_xcrs = { nr_xcrs: 0, flags: 4, xcrs: 8, SIZEOF: 392 } as const;
export const kvm_xcr = { xcr: 0, value: 8, SIZEOF: 16 } as const;
export const kvm_xsave = { region: 0, SIZEOF: 4096 } as const;
export const kvm_lapic_state = { regs: 0, SIZEOF: 1024 } as const;
export const kvm_irqchip = { chip_id: 0, chip: 8, SIZEOF: 520 } as const;
export const kvm_mp_state = { mp_state: 0, SIZEOF: 4 } as const;
/** The two 8259As, chip_id 0 and 1, lie at kvm_irqchip.chip. */
export const kvm_pic_state = {
  last_irr: 0,
  irr: 1,
  imr: 2,
  isr: 3,
  priority_add: 4,
  irq_base: 5,
  read_reg_select: 6,
  poll: 7,
  special_mask: 8,
  init_state: 9,
  auto_eoi: 10,
  rotate_on_auto_eoi: 11,
  special_fully_nested_mode: 12,
  init4: 13,
  elcr: 14,
  elcr_mask: 15,
  SIZEOF: 16,
} as const;

/** The I/O APIC, chip_id 2; its redirection entries have 8 bytes each. */
export const kvm_ioapic_state = { base_address: 0, ioregsel: 8, id: 12, irr: 16, redirtbl: 24, SIZEOF: 216 } as const;
export const KVM_IOAPIC_NUM_PINS = 24;
export const KVM_IRQCHIP_PIC_MASTER = 0, KVM_IRQCHIP_PIC_SLAVE = 1, KVM_IRQCHIP_IOAPIC = 2;

export const kvm_pit_config = { flags: 0, SIZEOF: 64 } as const;
export const KVM_PIT_SPEAKER_DUMMY = 1;
export const kvm_pit_channel_state = {
  count: 0,
  latched_count: 4,
  count_latched: 6,
  status_latched: 7,
  status: 8,
  read_state: 9,
  write_state: 10,
  write_latch: 11,
  rw_mode: 12,
  mode: 13,
  bcd: 14,
  gate: 15,
  count_load_time: 16,
  SIZEOF: 24,
} as const;
export const kvm_pit_state2 = { channels: 0, flags: 72, SIZEOF: 112 } as const;
export const KVM_PIT_FLAGS_SPEAKER_DATA_ON = 2;

export const kvm_irq_level = { irq: 0, level: 4, SIZEOF: 8 } as const;
export const kvm_msi = { address_lo: 0, address_hi: 4, data: 8, flags: 12, devid: 16, SIZEOF: 32 } as const;

/** The entries follow at its end. */
export const kvm_irq_routing = { nr: 0, flags: 4, entries: 8, SIZEOF: 8 } as const;
export const kvm_irq_routing_entry = {
  gsi: 0,
  type: 4,
  flags: 8,
  u_irqchip_irqchip: 16,
  u_irqchip_pin: 20,
  u_msi_address_lo: 16,
  u_msi_address_hi: 20,
  u_msi_data: 24,
  SIZEOF: 48,
} as const;
export const KVM_IRQ_ROUTING_IRQCHIP = 1, KVM_IRQ_ROUTING_MSI = 2;

export const kvm_irqfd = { fd: 0, gsi: 4, flags: 8, resamplefd: 12, SIZEOF: 32 } as const;
export const kvm_ioeventfd = { datamatch: 0, addr: 8, len: 16, fd: 20, flags: 24, SIZEOF: 64 } as const;
export const KVM_IRQFD_FLAG_DEASSIGN = 1;
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1, KVM_IOEVENTFD_FLAG_PIO = 2, KVM_IOEVENTFD_FLAG_DEASSIGN = 4;

export const kvm_coalesced_mmio_zone = { addr: 0, size: 8, pio: 12, SIZEOF: 16 } as const;
export const kvm_coalesced_mmio = { phys_addr: 0, len: 8, pio: 12, data: 16, SIZEOF: 24 } as const;
/** The entries follow at its end, as many as fit in a page. */
export const kvm_coalesced_mmio_ring = { first: 0, last: 4, coalesced_mmio: 8, SIZEOF: 8 } as const;
/** In pages, from the start of a vCPU's mapping. */
export const KVM_COALESCED_MMIO_PAGE_OFFSET = 2;

export const kvm_clock_data = { clock: 0, flags: 8, realtime: 16, host_tsc: 24, SIZEOF: 48 } as const;

export const KVM_MP_STATE_RUNNABLE = 0, KVM_MP_STATE_UNINITIALIZED = 1, KVM_MP_STATE_INIT_RECEIVED = 2;
export const KVM_MP_STATE_HALTED = 3, KVM_MP_STATE_SIPI_RECEIVED = 4;

export const kvm_interrupt = { irq: 0, SIZEOF: 4 } as const;
export const kvm_signal_mask = { len: 0, sigset: 4, SIZEOF: 4 } as const;

export const kvm_vcpu_events = {
  exception_injected: 0,
  exception_nr: 1,
  exception_has_error_code: 2,
  exception_pending: 3,
  exception_error_code: 4,
  interrupt_injected: 8,
  interrupt_nr: 9,
  interrupt_soft: 10,
  interrupt_shadow: 11,
  nmi_injected: 12,
  nmi_pending: 13,
  nmi_masked: 14,
  sipi_vector: 16,
  flags: 20,
  smi_latched_init: 27,
  SIZEOF: 64,
} as const;
export const KVM_VCPUEVENT_VALID_NMI_PENDING = 1, KVM_VCPUEVENT_VALID_SIPI_VECTOR = 2;
export const KVM_VCPUEVENT_VALID_SHADOW = 4, KVM_VCPUEVENT_VALID_SMM = 8;
/** Of kvm_vcpu_events.interrupt_shadow. */
export const KVM_X86_SHADOW_INT_MOV_SS = 1, KVM_X86_SHADOW_INT_STI = 2;

export const kvm_userspace_memory_region = {
  slot: 0,
  flags: 4,
  guest_phys_addr: 8,
  memory_size: 16,
  userspace_addr: 24,
  SIZEOF: 32,
} as const;

export const KVM_MEM_LOG_DIRTY_PAGES = 1, KVM_MEM_READONLY = 2;
export const kvm_dirty_log = { slot: 0, dirty_bitmap: 8, SIZEOF: 16 } as const;
export const kvm_clear_dirty_log = { slot: 0, num_pages: 4, first_page: 8, dirty_bitmap: 16, SIZEOF: 24 } as const;
export const KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE = 1;

export const kvm_cpuid_entry2 = {
  function: 0,
  index: 4,
  flags: 8,
  eax: 12,
  ebx: 16,
  ecx: 20,
  edx: 24,
  SIZEOF: 40,
} as const;
export const KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1;
/** The entries follow at its end. */
export const kvm_cpuid2 = { nent: 0, entries: 8, SIZEOF: 8 } as const;

export const kvm_msr_entry = { index: 0, data: 8, SIZEOF: 16 } as const;
export const kvm_msrs = { nmsrs: 0, entries: 8, SIZEOF: 8 } as const;
export const kvm_msr_list = { nmsrs: 0, indices: 4, SIZEOF: 4 } as const;

export const kvm_enable_cap = { cap: 0, flags: 4, args: 8, SIZEOF: 104 } as const;

export const kvm_msr_filter_range = { flags: 0, nmsrs: 4, base: 8, bitmap: 16, SIZEOF: 24 } as const;
export const kvm_msr_filter = { flags: 0, ranges: 8, SIZEOF: 392 } as const;
export const KVM_MSR_FILTER_READ = 1, KVM_MSR_FILTER_WRITE = 2;
export const KVM_MSR_EXIT_REASON_INVAL = 1, KVM_MSR_EXIT_REASON_UNKNOWN = 2, KVM_MSR_EXIT_REASON_FILTER = 4;

/** System requests. */
export const KVM_GET_API_VERSION = io(0x00);
export const KVM_CREATE_VM = io(0x01);
export const KVM_GET_MSR_INDEX_LIST = iowr(0x02, kvm_msr_list.SIZEOF);
export const KVM_CHECK_EXTENSION = io(0x03);
export const KVM_GET_VCPU_MMAP_SIZE = io(0x04);
export const KVM_GET_SUPPORTED_CPUID = iowr(0x05, kvm_cpuid2.SIZEOF);

/** Requests to a VM. */
export const KVM_CREATE_VCPU = io(0x41);
export const KVM_GET_DIRTY_LOG = iow(0x42, kvm_dirty_log.SIZEOF);
export const KVM_SET_USER_MEMORY_REGION = iow(0x46, kvm_userspace_memory_region.SIZEOF);
export const KVM_SET_TSS_ADDR = io(0x47);
export const KVM_SET_IDENTITY_MAP_ADDR = iow(0x48, 8);
export const KVM_CREATE_IRQCHIP = io(0x60);
export const KVM_GET_IRQCHIP = iowr(0x62, kvm_irqchip.SIZEOF);
export const KVM_SET_IRQCHIP = ior(0x63, kvm_irqchip.SIZEOF);
export const KVM_IRQ_LINE = iow(0x61, kvm_irq_level.SIZEOF);
export const KVM_REGISTER_COALESCED_MMIO = iow(0x67, kvm_coalesced_mmio_zone.SIZEOF);
export const KVM_UNREGISTER_COALESCED_MMIO = iow(0x68, kvm_coalesced_mmio_zone.SIZEOF);
export const KVM_SET_GSI_ROUTING = iow(0x6a, kvm_irq_routing.SIZEOF);
export const KVM_IRQFD = iow(0x76, kvm_irqfd.SIZEOF);
export const KVM_CREATE_PIT2 = iow(0x77, kvm_pit_config.SIZEOF);
export const KVM_IOEVENTFD = iow(0x79, kvm_ioeventfd.SIZEOF);
export const KVM_SET_CLOCK = iow(0x7b, kvm_clock_data.SIZEOF);
export const KVM_GET_CLOCK = ior(0x7c, kvm_clock_data.SIZEOF);
export const KVM_GET_PIT2 = ior(0x9f, kvm_pit_state2.SIZEOF);
export const KVM_SET_PIT2 = iow(0xa0, kvm_pit_state2.SIZEOF);
export const KVM_ENABLE_CAP = iow(0xa3, kvm_enable_cap.SIZEOF);
export const KVM_SIGNAL_MSI = iow(0xa5, kvm_msi.SIZEOF);
export const KVM_CLEAR_DIRTY_LOG = iowr(0xc0, kvm_clear_dirty_log.SIZEOF);
export const KVM_X86_SET_MSR_FILTER = iow(0xc6, kvm_msr_filter.SIZEOF);

/** Requests to a vCPU. */
export const KVM_RUN = io(0x80);
export const KVM_GET_REGS = ior(0x81, kvm_regs.SIZEOF);
export const KVM_SET_REGS = iow(0x82, kvm_regs.SIZEOF);
export const KVM_GET_SREGS = ior(0x83, kvm_sregs.SIZEOF);
export const KVM_SET_SREGS = iow(0x84, kvm_sregs.SIZEOF);
export const KVM_INTERRUPT = iow(0x86, kvm_interrupt.SIZEOF);
export const KVM_GET_MSRS = iowr(0x88, kvm_msrs.SIZEOF);
export const KVM_SET_MSRS = iow(0x89, kvm_msrs.SIZEOF);
export const KVM_SET_SIGNAL_MASK = iow(0x8b, kvm_signal_mask.SIZEOF);
export const KVM_GET_FPU = ior(0x8c, kvm_fpu.SIZEOF);
export const KVM_SET_FPU = iow(0x8d, kvm_fpu.SIZEOF);
export const KVM_GET_LAPIC = ior(0x8e, kvm_lapic_state.SIZEOF);
export const KVM_SET_LAPIC = iow(0x8f, kvm_lapic_state.SIZEOF);
export const KVM_SET_CPUID2 = iow(0x90, kvm_cpuid2.SIZEOF);
export const KVM_GET_CPUID2 = iowr(0x91, kvm_cpuid2.SIZEOF);
export const KVM_GET_MP_STATE = ior(0x98, kvm_mp_state.SIZEOF);
export const KVM_SET_MP_STATE = iow(0x99, kvm_mp_state.SIZEOF);
export const KVM_NMI = io(0x9a);
export const KVM_GET_VCPU_EVENTS = ior(0x9f, kvm_vcpu_events.SIZEOF);
export const KVM_SET_VCPU_EVENTS = iow(0xa0, kvm_vcpu_events.SIZEOF);
export const KVM_GET_DEBUGREGS = ior(0xa1, kvm_debugregs.SIZEOF);
export const KVM_SET_DEBUGREGS = iow(0xa2, kvm_debugregs.SIZEOF);
export const KVM_SET_TSC_KHZ = io(0xa2);
export const KVM_GET_TSC_KHZ = io(0xa3);
export const KVM_GET_XSAVE = ior(0xa4, kvm_xsave.SIZEOF);
export const KVM_SET_XSAVE = iow(0xa5, kvm_xsave.SIZEOF);
export const KVM_GET_XCRS = ior(0xa6, kvm_xcrs.SIZEOF);
export const KVM_SET_XCRS = iow(0xa7, kvm_xcrs.SIZEOF);

/** Arguments of KVM_CHECK_EXTENSION and KVM_ENABLE_CAP. */
export const KVM_CAP = {
  IRQCHIP: 0,
  USER_MEMORY: 3,
  SET_TSS_ADDR: 4,
  EXT_CPUID: 7,
  NR_VCPUS: 9,
  MP_STATE: 14,
  COALESCED_MMIO: 15,
  USER_NMI: 22,
  IRQ_ROUTING: 25,
  IRQFD: 32,
  PIT2: 33,
  PIT_STATE2: 35,
  IOEVENTFD: 36,
  IOEVENTFD_NO_LENGTH: 100,
  SET_IDENTITY_MAP_ADDR: 37,
  ADJUST_CLOCK: 39,
  VCPU_EVENTS: 41,
  DEBUGREGS: 50,
  XSAVE: 55,
  XCRS: 56,
  TSC_CONTROL: 60,
  GET_TSC_KHZ: 61,
  MAX_VCPUS: 66,
  TSC_DEADLINE_TIMER: 72,
  SIGNAL_MSI: 77,
  SPLIT_IRQCHIP: 121,
  IMMEDIATE_EXIT: 136,
  COALESCED_PIO: 162,
  MANUAL_DIRTY_LOG_PROTECT2: 168,
  X86_USER_SPACE_MSR: 188,
  X86_MSR_FILTER: 189,
  EXIT_ON_EMULATION_FAILURE: 204,
} as const;

/** Leaf 40000001H, EAX: what the guest may ask of KVM itself. */
export const KVM_CPUID_SIGNATURE = 0x4000_0000, KVM_CPUID_FEATURES = 0x4000_0001;
export const KVM_FEATURE = { CLOCKSOURCE: 0, NOP_IO_DELAY: 1, CLOCKSOURCE2: 3, CLOCKSOURCE_STABLE_BIT: 24 } as const;
