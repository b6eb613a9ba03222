/*
 * The guest's end of tests/vsock: "listen PORT CLIENTS" echoes what clients send, each in a process of its own; "send PORT
 * BYTES" connects to the host, sends so many bytes, and compares what comes back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <linux/vm_sockets.h>

static char buffer[65536];

static int address(struct sockaddr_vm *a, unsigned cid, unsigned port) {
  memset(a, 0, sizeof *a);
  a->svm_family = AF_VSOCK;
  a->svm_cid = cid;
  a->svm_port = port;
  return socket(AF_VSOCK, SOCK_STREAM, 0);
}

static int write_all(int fd, const char *from, long n) {
  while (n > 0) {
    long done = write(fd, from, n);
    if (done <= 0) return -1;
    from += done;
    n -= done;
  }
  return 0;
}

static int serve(unsigned port, int clients) {
  struct sockaddr_vm a;
  int s = address(&a, VMADDR_CID_ANY, port);
  if (bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 128)) return perror("listen"), 1;
  puts("listening");
  fflush(stdout);
  while (clients-- > 0) {
    int fd = accept(s, 0, 0);
    if (fd < 0) return perror("accept"), 1;
    if (fork() == 0) {
      long n;
      while ((n = read(fd, buffer, sizeof buffer)) > 0)
        if (write_all(fd, buffer, n)) exit(1);
      exit(0);
    }
    close(fd);
  }
  while (wait(0) > 0) {
  }
  return 0;
}

static unsigned next(unsigned *x) { return (*x = *x * 1103515245 + 12345) >> 16 & 255; }

static int send_and_compare(unsigned port, long bytes) {
  struct sockaddr_vm a;
  int s = address(&a, VMADDR_CID_HOST, port);
  if (connect(s, (struct sockaddr *)&a, sizeof a)) return perror("connect"), 1;
  if (fork() == 0) {
    unsigned x = 1;
    for (long left = bytes; left > 0;) {
      long n = left < (long)sizeof buffer ? left : (long)sizeof buffer;
      for (long i = 0; i < n; i++) buffer[i] = next(&x);
      if (write_all(s, buffer, n)) exit(1);
      left -= n;
    }
    shutdown(s, SHUT_WR);
    exit(0);
  }
  unsigned x = 1;
  long came = 0, wrong = 0, n;
  while ((n = read(s, buffer, sizeof buffer)) > 0) {
    for (long i = 0; i < n; i++) wrong += (unsigned char)buffer[i] != next(&x);
    came += n;
  }
  wait(0);
  printf("echoed %ld, %ld wrong\n", came, wrong);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[1], "listen")) return serve(atoi(argv[2]), atoi(argv[3]));
  if (argc == 4 && !strcmp(argv[1], "send")) return send_and_compare(atoi(argv[2]), atol(argv[3]));
  return 2;
}
