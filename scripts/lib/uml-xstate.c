/*
 * Preloaded into User Mode Linux (LD_PRELOAD) on processors with AMX, whose register state is larger than the 2,696 bytes
 * that it supports. It reads and restores its processes' registers with that size. Linux allows the smaller size only for
 * reads, so each process of the test host would exit at its start. This library reads and writes the missing bytes, too.
 * No process of the test host uses AMX.
 *
 * Linux: xstateregs_set in arch/x86/kernel/fpu/regset.c. User Mode Linux: put_fp_registers in arch/x86/um/os-Linux/registers.c.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#define NT_X86_XSTATE 0x202UL
/* The largest known state has 11,008 bytes. */
#define STATE_BYTES_MAX 65536

typedef long (*ptrace_call)(int, int, void *, void *);

static ptrace_call next(void) {
  static ptrace_call found;
  if (!found) found = (ptrace_call)dlsym(RTLD_NEXT, "ptrace");
  return found;
}

long ptrace(enum __ptrace_request request, ...) {
  va_list arguments;
  va_start(arguments, request);
  int pid = va_arg(arguments, int);
  void *address = va_arg(arguments, void *);
  void *data = va_arg(arguments, void *);
  va_end(arguments);
  int is_get = request == PTRACE_GETREGSET;
  if ((!is_get && request != PTRACE_SETREGSET) || (unsigned long)address != NT_X86_XSTATE)
    return next()(request, pid, address, data);

  static __thread char state[STATE_BYTES_MAX];
  struct iovec all = {state, sizeof state};
  long result = next()(PTRACE_GETREGSET, pid, address, &all);
  if (result < 0) return result;
  struct iovec *known = data;
  if (known->iov_len > all.iov_len) known->iov_len = all.iov_len;
  if (is_get) {
    memcpy(known->iov_base, state, known->iov_len);
    return result;
  }
  memcpy(state, known->iov_base, known->iov_len);
  return next()(PTRACE_SETREGSET, pid, address, &all);
}
