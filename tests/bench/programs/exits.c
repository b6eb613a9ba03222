/* The least that a program can do to serve a guest's exits under KVM: what the exits of trike are measured against.
 *
 * exits CODE KERNEL: the guest's machine code in hexadecimal, at 10000H in flat 32-bit protected mode; 1 for KVM's own interrupt
 * controllers. Each line of standard input runs the guest from there until it writes to a port, and is answered with the
 * nanoseconds that took. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

enum { RAM_BYTES = 16 << 20, CODE = 0x10000 };

static void must(int ok, const char *what) {
  if (ok) return;
  perror(what);
  exit(1);
}

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void segment(struct kvm_segment *s, int selector, int type) {
  memset(s, 0, sizeof *s);
  s->limit = 0xffffffff;
  s->selector = selector;
  s->type = type;
  s->present = s->db = s->s = s->g = 1;
}

int main(int argc, char **argv) {
  must(argc == 3, "usage: exits CODE KERNEL");
  int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  must(kvm >= 0, "/dev/kvm");
  int vm = ioctl(kvm, KVM_CREATE_VM, 0);
  must(vm >= 0, "KVM_CREATE_VM");
  ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
  if (argv[2][0] == '1') must(ioctl(vm, KVM_CREATE_IRQCHIP, 0) == 0, "KVM_CREATE_IRQCHIP");
  unsigned char *ram = mmap(0, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  must(ram != MAP_FAILED, "mmap");
  struct kvm_userspace_memory_region region = { 0, 0, 0, RAM_BYTES, (unsigned long)ram };
  must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0, "KVM_SET_USER_MEMORY_REGION");
  size_t bytes = strlen(argv[1]) / 2;
  for (size_t i = 0; i < bytes; i++) {
    char two[3] = { argv[1][2 * i], argv[1][2 * i + 1], 0 };
    ram[CODE + i] = strtol(two, 0, 16);
  }
  int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  must(vcpu >= 0, "KVM_CREATE_VCPU");
  struct kvm_run *run =
    mmap(0, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  must(run != MAP_FAILED, "mmap");
  struct kvm_sregs sregs;
  must(ioctl(vcpu, KVM_GET_SREGS, &sregs) == 0, "KVM_GET_SREGS");
  segment(&sregs.cs, 8, 11);
  struct kvm_segment *data[] = { &sregs.ds, &sregs.es, &sregs.ss, &sregs.fs, &sregs.gs };
  for (int i = 0; i < 5; i++) segment(data[i], 16, 3);
  sregs.cr0 = 0x11;
  char line[16];
  while (fgets(line, sizeof line, stdin)) {
    struct kvm_regs regs = { .rip = CODE, .rflags = 2, .rsp = 0x9000 };
    must(ioctl(vcpu, KVM_SET_SREGS, &sregs) == 0, "KVM_SET_SREGS");
    must(ioctl(vcpu, KVM_SET_REGS, &regs) == 0, "KVM_SET_REGS");
    long long start = now();
    for (int going = 1; going;) {
      must(ioctl(vcpu, KVM_RUN, 0) == 0, "KVM_RUN");
      switch (run->exit_reason) {
      case KVM_EXIT_IO:
        if (run->io.direction == KVM_EXIT_IO_OUT) going = 0;
        else ((unsigned char *)run)[run->io.data_offset] = 0;
        break;
      case KVM_EXIT_MMIO:
        memset(run->mmio.data, 0, run->mmio.len);
        break;
      default:
        fprintf(stderr, "exit %d\n", run->exit_reason);
        return 1;
      }
    }
    printf("%lld\n", now() - start);
    fflush(stdout);
  }
  return 0;
}
