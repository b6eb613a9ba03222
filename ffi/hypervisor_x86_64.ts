/**
 * Hypervisor.framework of macOS on Intel processors: every function with its types, constants and layouts, under their C names.
 * No policy. What VMX itself defines is in vmx.ts.
 *
 * A vCPU belongs to the thread that created it: all functions that take one must be called there, but for hv_vcpu_interrupt and
 * hv_vm_lapic_set_intr. Results are read as unsigned numbers. Functions newer than macOS 11 are null where they are missing.
 * A structure is an object of offsets in bytes, with its size as SIZEOF.
 */

/** Not on disk: it lives in the cache of the dynamic linker. */
export const HYPERVISOR_PATH = "/System/Library/Frameworks/Hypervisor.framework/Hypervisor";

export const HYPERVISOR_SYMBOLS = {
  hv_capability: { parameters: ["u64", "buffer"], result: "u32" },
  hv_vm_create: { parameters: ["u64"], result: "u32" },
  hv_vm_destroy: { parameters: [], result: "u32" },
  hv_vm_space_create: { parameters: ["buffer"], result: "u32" },
  hv_vm_space_destroy: { parameters: ["u32"], result: "u32" },
  hv_vm_map: { parameters: ["pointer", "u64", "usize", "u64"], result: "u32" },
  hv_vm_unmap: { parameters: ["u64", "usize"], result: "u32" },
  hv_vm_protect: { parameters: ["u64", "usize", "u64"], result: "u32" },
  hv_vm_map_space: { parameters: ["u32", "pointer", "u64", "usize", "u64"], result: "u32" },
  hv_vm_unmap_space: { parameters: ["u32", "u64", "usize"], result: "u32" },
  hv_vm_protect_space: { parameters: ["u32", "u64", "usize", "u64"], result: "u32" },
  hv_vm_allocate: { parameters: ["buffer", "usize", "u64"], result: "u32", optional: true },
  hv_vm_deallocate: { parameters: ["pointer", "usize"], result: "u32", optional: true },
  hv_vm_sync_tsc: { parameters: ["u64"], result: "u32" },
  hv_tsc_clock: { parameters: [], result: "u64" },
  hv_vm_add_pio_notifier: { parameters: ["u16", "usize", "u32", "u32", "u32"], result: "u32" },
  hv_vm_remove_pio_notifier: { parameters: ["u16", "usize", "u32", "u32", "u32"], result: "u32" },
  hv_vcpu_create: { parameters: ["buffer", "u64"], result: "u32" },
  hv_vcpu_destroy: { parameters: ["u32"], result: "u32" },
  hv_vcpu_set_space: { parameters: ["u32", "u32"], result: "u32" },
  hv_vcpu_read_register: { parameters: ["u32", "u32", "buffer"], result: "u32" },
  hv_vcpu_write_register: { parameters: ["u32", "u32", "u64"], result: "u32" },
  hv_vcpu_read_fpstate: { parameters: ["u32", "buffer", "usize"], result: "u32" },
  hv_vcpu_write_fpstate: { parameters: ["u32", "buffer", "usize"], result: "u32" },
  hv_vcpu_enable_native_msr: { parameters: ["u32", "u32", "bool"], result: "u32" },
  hv_vcpu_enable_managed_msr: { parameters: ["u32", "u32", "bool"], result: "u32" },
  hv_vcpu_set_msr_access: { parameters: ["u32", "u32", "u32"], result: "u32" },
  hv_vcpu_read_msr: { parameters: ["u32", "u32", "buffer"], result: "u32" },
  hv_vcpu_write_msr: { parameters: ["u32", "u32", "u64"], result: "u32" },
  hv_vcpu_flush: { parameters: ["u32"], result: "u32" },
  hv_vcpu_invalidate_tlb: { parameters: ["u32"], result: "u32" },
  hv_vcpu_run: { parameters: ["u32"], result: "u32" },
  hv_vcpu_run_until: { parameters: ["u32", "u64"], result: "u32" },
  hv_vcpu_interrupt: { parameters: ["buffer", "u32"], result: "u32" },
  hv_vcpu_get_exec_time: { parameters: ["u32", "buffer"], result: "u32" },
  hv_vcpu_get_idle_time: { parameters: ["u32", "buffer"], result: "u32", optional: true },
  hv_vcpu_set_tsc_relative: { parameters: ["u32", "i64"], result: "u32" },
  hv_vcpu_vmx_status: { parameters: ["u32", "buffer"], result: "u32", optional: true },
  hv_vmx_vcpu_read_vmcs: { parameters: ["u32", "u32", "buffer"], result: "u32" },
  hv_vmx_vcpu_write_vmcs: { parameters: ["u32", "u32", "u64"], result: "u32" },
  hv_vmx_vcpu_get_cap_write_vmcs: { parameters: ["u32", "u32", "buffer", "buffer"], result: "u32" },
  hv_vmx_vcpu_read_shadow_vmcs: { parameters: ["u32", "u32", "buffer"], result: "u32" },
  hv_vmx_vcpu_write_shadow_vmcs: { parameters: ["u32", "u32", "u64"], result: "u32" },
  hv_vmx_vcpu_set_shadow_access: { parameters: ["u32", "u32", "u64"], result: "u32" },
  hv_vmx_read_capability: { parameters: ["u32", "buffer"], result: "u32" },
  hv_vmx_get_msr_info: { parameters: ["u64", "buffer"], result: "u32" },
  hv_vmx_vcpu_set_apic_address: { parameters: ["u32", "u64"], result: "u32" },
  hv_vmx_vcpu_set_apic_address_space: { parameters: ["u32", "u32", "u64"], result: "u32", optional: true },
  hv_vm_lapic_set_intr: { parameters: ["u32", "u8", "u32"], result: "u32", optional: true },
  hv_vm_lapic_msi: { parameters: ["u64", "u64"], result: "u32", optional: true },
  hv_vm_ioapic_assert_irq: { parameters: ["i32"], result: "u32", optional: true },
  hv_vm_ioapic_deassert_irq: { parameters: ["i32"], result: "u32", optional: true },
  hv_vm_ioapic_pulse_irq: { parameters: ["i32"], result: "u32", optional: true },
  hv_vm_ioapic_read: { parameters: ["u64", "buffer"], result: "u32", optional: true },
  hv_vm_ioapic_write: { parameters: ["u64", "u32"], result: "u32", optional: true },
  hv_vm_ioapic_get_state: { parameters: ["buffer"], result: "u32", optional: true },
  hv_vm_ioapic_put_state: { parameters: ["buffer"], result: "u32", optional: true },
  hv_vm_send_ioapic_intr: { parameters: ["u64"], result: "u32", optional: true },
  hv_vm_atpic_assert_irq: { parameters: ["i32"], result: "u32", optional: true },
  hv_vm_atpic_deassert_irq: { parameters: ["i32"], result: "u32", optional: true },
  hv_vm_atpic_port_read: { parameters: ["i32", "buffer"], result: "u32", optional: true },
  hv_vm_atpic_port_write: { parameters: ["i32", "u8"], result: "u32", optional: true },
  hv_vm_atpic_get_state: { parameters: ["buffer", "bool"], result: "u32", optional: true },
  hv_vm_atpic_put_state: { parameters: ["buffer", "bool"], result: "u32", optional: true },
  hv_vm_set_apic_bus_freq: { parameters: ["u64"], result: "u32", optional: true },
  hv_vcpu_inject_extint: { parameters: ["u32"], result: "u32", optional: true },
  hv_vcpu_apic_read: { parameters: ["u32", "u32", "buffer"], result: "u32", optional: true },
  hv_vcpu_apic_write: { parameters: ["u32", "u32", "u32", "buffer"], result: "u32", optional: true },
  hv_vcpu_apic_get_state: { parameters: ["u32", "buffer"], result: "u32", optional: true },
  hv_vcpu_apic_put_state: { parameters: ["u32", "buffer"], result: "u32", optional: true },
  hv_vcpu_exit_info: { parameters: ["u32", "buffer"], result: "u32", optional: true },
  hv_vcpu_exit_init_ap: { parameters: ["u32", "buffer", "u32"], result: "u32", optional: true },
  hv_vcpu_exit_startup_ap: { parameters: ["u32", "buffer", "u32", "buffer"], result: "u32", optional: true },
  hv_vcpu_exit_ioapic_eoi: { parameters: ["u32", "buffer"], result: "u32", optional: true },
  hv_vcpu_exit_apic_access_read: { parameters: ["u32", "buffer"], result: "u32", optional: true },
  hv_vcpu_exit_inject_excp: {
    parameters: ["u32", "buffer", "buffer", "buffer", "buffer"],
    result: "u32",
    optional: true,
  },
  hv_vcpu_apic_lsc_enter_r32: {
    parameters: ["u32", "bool", "u64", "u32", "u16", "u32", "buffer", "u32"],
    result: "u32",
    optional: true,
  },
  hv_vcpu_apic_lsc_enter_imm32: {
    parameters: ["u32", "u64", "u32", "u16", "u32", "buffer", "u32"],
    result: "u32",
    optional: true,
  },
  hv_vcpu_apic_lsc_invalidate: { parameters: ["u32"], result: "u32", optional: true },
  hv_vcpu_apic_ctrl: { parameters: ["u32", "u64"], result: "u32", optional: true },
  hv_vcpu_apic_trigger_lvt: { parameters: ["u32", "u32"], result: "u32", optional: true },
} as const satisfies Deno.ForeignLibraryInterface;

export const HV_VM_SPACE_DEFAULT = 0;
export const HV_DEADLINE_FOREVER = 0xffff_ffff_ffff_ffffn;
export const HV_ALLOCATE_DEFAULT = 0;
/** `version` of the states of interrupt controllers. */
export const HV_STATE_VERSION = 100;

/** Read as an unsigned number. */
export const hv_return_t = {
  HV_SUCCESS: 0x0,
  HV_ERROR: 0xfae94001,
  HV_BUSY: 0xfae94002,
  HV_BAD_ARGUMENT: 0xfae94003,
  HV_NO_RESOURCES: 0xfae94005,
  HV_NO_DEVICE: 0xfae94006,
  HV_DENIED: 0xfae94007,
  HV_FAULT: 0xfae94008,
  HV_UNSUPPORTED: 0xfae9400f,
} as const;

export const hv_memory_flags_t = {
  HV_MEMORY_READ: 0x1,
  HV_MEMORY_WRITE: 0x2,
  HV_MEMORY_EXEC: 0x4,
  HV_MEMORY_UEXEC: 0x8,
  HV_MEMORY_MAXPROT: 0x10,
  HV_MEMORY_MAXPROT_READ: 0x20,
  HV_MEMORY_MAXPROT_WRITE: 0x40,
  HV_MEMORY_MAXPROT_EXEC: 0x80,
  HV_MEMORY_MAXPROT_UEXEC: 0x100,
} as const;

export const hv_vm_options_t = {
  HV_VM_DEFAULT: 0x0,
  HV_VM_SPECIFY_MITIGATIONS: 0x1,
  HV_VM_MITIGATION_A_ENABLE: 0x2,
  HV_VM_MITIGATION_B_ENABLE: 0x4,
  HV_VM_MITIGATION_C_ENABLE: 0x8,
  HV_VM_MITIGATION_D_ENABLE: 0x10,
  HV_VM_MITIGATION_E_ENABLE: 0x40,
  HV_VM_ACCEL_APIC: 0x400,
} as const;

export const hv_vcpu_options_t = {
  HV_VCPU_DEFAULT: 0,
  HV_VCPU_ACCEL_RDPMC: 1,
  HV_VCPU_TSC_RELATIVE: 2,
} as const;

export const hv_capability_t = {
  HV_CAP_VCPUMAX: 0,
  HV_CAP_ADDRSPACEMAX: 1,
} as const;

export const hv_msr_flags_t = {
  HV_MSR_NONE: 0,
  HV_MSR_READ: 1,
  HV_MSR_WRITE: 2,
} as const;

export const hv_shadow_flags_t = {
  HV_SHADOW_VMCS_NONE: 0,
  HV_SHADOW_VMCS_READ: 1,
  HV_SHADOW_VMCS_WRITE: 2,
} as const;

export const hv_ion_flags_t = {
  HV_ION_NONE: 0,
  HV_ION_ANY_VALUE: 2,
  HV_ION_ANY_SIZE: 4,
  HV_ION_EXIT_FULL: 8,
} as const;

export const hv_vm_exitinfo_t = {
  HV_VM_EXITINFO_VMX: 1,
  HV_VM_EXITINFO_INIT_AP: 2,
  HV_VM_EXITINFO_STARTUP_AP: 3,
  HV_VM_EXITINFO_IOAPIC_EOI: 4,
  HV_VM_EXITINFO_INJECT_EXCP: 5,
  HV_VM_EXITINFO_SMI: 6,
  HV_VM_EXITINFO_APIC_ACCESS_READ: 7,
} as const;

export const hv_apic_ctrl_t = {
  HV_APIC_CTRL_DEFAULT: 0,
  HV_APIC_CTRL_EOI_ICR_TPR: 1,
  HV_APIC_CTRL_GUEST_IDLE: 2,
  HV_APIC_CTRL_NO_TIMER: 4,
  HV_APIC_CTRL_IOAPIC_EOI: 8,
} as const;

export const hv_apic_lvt_flavor_t = {
  HV_APIC_LVT_TIMER: 1,
} as const;

export const hv_apic_intr_trigger_t = {
  HV_APIC_EDGE_TRIGGER: 0,
  HV_APIC_EDGE_TRIGGER_AEOI: 1,
  HV_APIC_LEVEL_TRIGGER: 2,
} as const;

export const hv_boot_state = {
  HV_BS_INIT: 0,
  HV_BS_SIPI: 1,
  HV_BS_RUNNING: 2,
} as const;

/** In an order of its own: neither the encoding of instructions nor the alphabet. */
export const hv_x86_reg_t = {
  HV_X86_RIP: 0,
  HV_X86_RFLAGS: 1,
  HV_X86_RAX: 2,
  HV_X86_RCX: 3,
  HV_X86_RDX: 4,
  HV_X86_RBX: 5,
  HV_X86_RSI: 6,
  HV_X86_RDI: 7,
  HV_X86_RSP: 8,
  HV_X86_RBP: 9,
  HV_X86_R8: 10,
  HV_X86_R9: 11,
  HV_X86_R10: 12,
  HV_X86_R11: 13,
  HV_X86_R12: 14,
  HV_X86_R13: 15,
  HV_X86_R14: 16,
  HV_X86_R15: 17,
  HV_X86_CS: 18,
  HV_X86_SS: 19,
  HV_X86_DS: 20,
  HV_X86_ES: 21,
  HV_X86_FS: 22,
  HV_X86_GS: 23,
  HV_X86_IDT_BASE: 24,
  HV_X86_IDT_LIMIT: 25,
  HV_X86_GDT_BASE: 26,
  HV_X86_GDT_LIMIT: 27,
  HV_X86_LDTR: 28,
  HV_X86_LDT_BASE: 29,
  HV_X86_LDT_LIMIT: 30,
  HV_X86_LDT_AR: 31,
  HV_X86_TR: 32,
  HV_X86_TSS_BASE: 33,
  HV_X86_TSS_LIMIT: 34,
  HV_X86_TSS_AR: 35,
  HV_X86_CR0: 36,
  HV_X86_CR1: 37,
  HV_X86_CR2: 38,
  HV_X86_CR3: 39,
  HV_X86_CR4: 40,
  HV_X86_DR0: 41,
  HV_X86_DR1: 42,
  HV_X86_DR2: 43,
  HV_X86_DR3: 44,
  HV_X86_DR4: 45,
  HV_X86_DR5: 46,
  HV_X86_DR6: 47,
  HV_X86_DR7: 48,
  HV_X86_TPR: 49,
  HV_X86_XCR0: 50,
  HV_X86_REGISTERS_MAX: 51,
} as const;

/** As the IA32_VMX_* MSRs: of controls, the low half must be 1, the high half may be. */
export const hv_vmx_capability_t = {
  HV_VMX_CAP_PINBASED: 0,
  HV_VMX_CAP_PROCBASED: 1,
  HV_VMX_CAP_PROCBASED2: 2,
  HV_VMX_CAP_ENTRY: 3,
  HV_VMX_CAP_EXIT: 4,
  HV_VMX_CAP_BASIC: 5,
  HV_VMX_CAP_TRUE_PINBASED: 6,
  HV_VMX_CAP_TRUE_PROCBASED: 7,
  HV_VMX_CAP_TRUE_ENTRY: 8,
  HV_VMX_CAP_TRUE_EXIT: 9,
  HV_VMX_CAP_MISC: 10,
  HV_VMX_CAP_CR0_FIXED0: 11,
  HV_VMX_CAP_CR0_FIXED1: 12,
  HV_VMX_CAP_CR4_FIXED0: 13,
  HV_VMX_CAP_CR4_FIXED1: 14,
  HV_VMX_CAP_VMCS_ENUM: 15,
  HV_VMX_CAP_EPT_VPID_CAP: 16,
  HV_VMX_CAP_PREEMPTION_TIMER: 32,
} as const;

export const hv_vmx_msr_info_t = {
  HV_VMX_INFO_MSR_IA32_ARCH_CAPABILITIES: 0,
  HV_VMX_INFO_MSR_IA32_PERF_CAPABILITIES: 1,
  HV_VMX_VALID_MSR_IA32_PERFEVNTSEL: 2,
  HV_VMX_VALID_MSR_IA32_FIXED_CTR_CTRL: 3,
  HV_VMX_VALID_MSR_IA32_PERF_GLOBAL_CTRL: 4,
  HV_VMX_VALID_MSR_IA32_PERF_GLOBAL_STATUS: 5,
  HV_VMX_VALID_MSR_IA32_DEBUGCTL: 6,
  HV_VMX_VALID_MSR_IA32_SPEC_CTRL: 7,
  HV_VMX_NEED_MSR_IA32_SPEC_CTRL: 8,
} as const;

/** Offsets in bytes; `version` is to be HV_STATE_VERSION before the state is read. */
export const hv_apic_state_ext_t = {
  version: 0,
  apic_gpa: 8,
  apic_controls: 16,
  tsc_deadline: 24,
  apic_id: 32,
  apic_ver: 36,
  tpr: 40,
  apr: 44,
  ldr: 48,
  dfr: 52,
  svr: 56,
  isr: 60,
  tmr: 92,
  irr: 124,
  esr: 156,
  lvt: 160,
  icr: 188,
  icr_timer: 196,
  dcr_timer: 200,
  ccr_timer: 204,
  esr_pending: 208,
  boot_state: 212,
  aeoi: 216,
  SIZEOF: 248,
} as const;

export const hv_ioapic_state_ext_t = {
  version: 0,
  rtbl: 8,
  irr: 264,
  ioa_id: 268,
  ioregsel: 272,
  SIZEOF: 280,
} as const;

export const hv_atpic_state_ext_t = {
  version: 0,
  ready: 4,
  icw_num: 5,
  rd_cmd_reg: 6,
  aeoi: 7,
  poll: 8,
  rotate: 9,
  sfn: 10,
  irq_base: 11,
  request: 12,
  service: 13,
  mask: 14,
  smm: 15,
  last_request: 16,
  lowprio: 17,
  intr_raised: 18,
  elc: 19,
  SIZEOF: 20,
} as const;
