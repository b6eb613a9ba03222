/* The kernel's side of things: system calls, processes, page faults, signals. The checksum counts what succeeded. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

uint64_t syscalls(uint64_t size) {
  uint64_t done = 0;
  pid_t self = getpid();
  while (size--) done += syscall(SYS_getpid) == self;
  return done;
}

uint64_t devzero(uint64_t size) {
  int zero = open("/dev/zero", O_RDONLY);
  if (zero < 0) fail("/dev/zero");
  uint64_t done = 0;
  while (size--) {
    char byte = 1;
    done += read(zero, &byte, 1) == 1 && byte == 0;
  }
  close(zero);
  return done;
}

/* A byte to another process and back: two switches of context a round. */
uint64_t pipes(uint64_t size) {
  int to[2], from[2];
  if (pipe(to) || pipe(from)) fail("pipe");
  pid_t child = fork();
  if (child < 0) fail("fork");
  char byte = 0;
  if (child == 0) {
    close(to[1]);
    while (read(to[0], &byte, 1) == 1) {
      byte++;
      if (write(from[1], &byte, 1) != 1) _exit(1);
    }
    _exit(0);
  }
  uint64_t done = 0;
  while (size--) {
    char sent = byte;
    if (write(to[1], &sent, 1) != 1 || read(from[0], &byte, 1) != 1) fail("pipe");
    done += byte == (char)(sent + 1);
  }
  close(to[1]), close(to[0]), close(from[0]), close(from[1]);
  waitpid(child, NULL, 0);
  return done;
}

uint64_t forks(uint64_t size) {
  uint64_t done = 0;
  while (size--) {
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) _exit(3);
    int status;
    done += waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3;
  }
  return done;
}

uint64_t execs(uint64_t size) {
  uint64_t done = 0;
  while (size--) {
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
      execl("/bin/busybox", "true", NULL);
      _exit(1);
    }
    int status;
    done += waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  return done;
}

/* Touches each of `size` fresh pages, in mappings of 16 MiB. */
uint64_t pagefaults(uint64_t size) {
  const uint64_t pages = 4096;
  uint64_t done = 0;
  while (done < size) {
    volatile char *at = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) fail("mmap");
    madvise((void *)at, pages * 4096, MADV_NOHUGEPAGE);
    for (uint64_t page = 0; page < pages && done < size; page++) {
      at[page * 4096] = 1;
      done += at[page * 4096 + 1] == 0;
    }
    munmap((void *)at, pages * 4096);
  }
  return done;
}

static volatile sig_atomic_t caught;

static void handler(int number) {
  (void)number;
  caught++;
}

uint64_t signals(uint64_t size) {
  struct sigaction action = {.sa_handler = handler};
  if (sigaction(SIGUSR1, &action, NULL)) fail("sigaction");
  while (size--) raise(SIGUSR1);
  return caught;
}
