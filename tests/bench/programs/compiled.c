/* With integer.c, what the guest's own compiler compiles and runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

void fail(const char *what) {
  perror(what);
  exit(1);
}

int main(void) {
  printf("%llu\n", (unsigned long long)fib(20));
  printf("%llx\n", (unsigned long long)quicksort(5000));
  printf("%llx\n", (unsigned long long)dispatch(10000));
  return 0;
}
