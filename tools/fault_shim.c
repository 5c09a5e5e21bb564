/* Preloaded by tools/faults: lets chosen system calls of a program fail, or the program die at one of them.
 *
 *   FAULT_PATHS   prefixes of absolute paths, separated by ':'; only calls on files beneath them count
 *   FAULT_CALLS   names of calls that count, separated by ',' (empty: all below)
 *   FAULT_AT      the first call that fails, from 1; 0 = none
 *   FAULT_TIMES   how many in a row (1)
 *   FAULT_ERROR   the number of an error, or KILL
 *   FAULT_LOG     a file that gets a line for each call that counts: "NUMBER CALL PATH"
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long counted;
static long first, times = 1;
static int error_number, log_descriptor = -1;
static char paths[4096], calls[512];

__attribute__((constructor)) static void begin(void) {
  const char* text = getenv("FAULT_PATHS");
  snprintf(paths, sizeof paths, "%s", text ? text : "");
  text = getenv("FAULT_CALLS");
  snprintf(calls, sizeof calls, ",%s,", text ? text : "");
  if ((text = getenv("FAULT_AT"))) first = atol(text);
  if ((text = getenv("FAULT_TIMES"))) times = atol(text);
  if ((text = getenv("FAULT_ERROR"))) error_number = strcmp(text, "KILL") == 0 ? -1 : atoi(text);
  if ((text = getenv("FAULT_LOG")))
    log_descriptor =
        (int)syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_beneath(const char* path) {
  for (const char* prefix = paths; *prefix;) {
    const char* end = strchrnul(prefix, ':');
    const size_t length = (size_t)(end - prefix);
    if (length > 0 && strncmp(path, prefix, length) == 0 && (path[length] == 0 || path[length] == '/'))
      return 1;
    prefix = *end ? end + 1 : end;
  }
  return 0;
}

/* Whether this call is to fail; errno is set then. */
static int fails(const char* call, const char* path) {
  char name[64], absolute[PATH_MAX], line[PATH_MAX + 128];
  if (!path) return 0;
  snprintf(name, sizeof name, ",%s,", call);
  if (calls[1] != ',' && !strstr(calls, name)) return 0;
  if (path[0] != '/') {
    char here[PATH_MAX];
    if (syscall(SYS_getcwd, here, sizeof here) < 0) return 0;
    if ((size_t)snprintf(absolute, sizeof absolute, "%s/%s", here, path) >= sizeof absolute) return 0;
    path = absolute;
  }
  if (!is_beneath(path)) return 0;
  const long number = atomic_fetch_add(&counted, 1) + 1;
  if (log_descriptor >= 0) {
    const int length = snprintf(line, sizeof line, "%ld %s %s\n", number, call, path);
    if (syscall(SYS_write, log_descriptor, line, (size_t)length) < 0) log_descriptor = -1;
  }
  if (first == 0 || number < first || number >= first + times) return 0;
  if (error_number < 0) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
  }
  errno = error_number;
  return 1;
}

static int descriptor_fails(const char* call, int descriptor) {
  char link[64], path[PATH_MAX];
  const int before = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const long length = syscall(SYS_readlink, link, path, sizeof path - 1);
  errno = before;
  if (length <= 0) return 0;
  path[length] = 0;
  return fails(call, path);
}

#define NEXT(type, name, parameters) \
  static type(*next) parameters;     \
  if (!next) *(void**)&next = dlsym(RTLD_NEXT, name)

#define OPEN(symbol)                                                              \
  int symbol(const char* path, int flags, ...) {                                  \
    NEXT(int, #symbol, (const char*, int, ...));                                  \
    va_list rest;                                                                 \
    va_start(rest, flags);                                                        \
    const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                                 \
    return fails("open", path) ? -1 : next(path, flags, mode);                    \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(symbol)                                                              \
  int symbol(int folder, const char* path, int flags, ...) {                        \
    NEXT(int, #symbol, (int, const char*, int, ...));                               \
    va_list rest;                                                                   \
    va_start(rest, flags);                                                          \
    const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;   \
    va_end(rest);                                                                   \
    const int bad = folder == AT_FDCWD || path[0] == '/' ? fails("open", path) : 0; \
    return bad ? -1 : next(folder, path, flags, mode);                              \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int descriptor, void* into, size_t size) {
  NEXT(ssize_t, "read", (int, void*, size_t));
  return descriptor_fails("read", descriptor) ? -1 : next(descriptor, into, size);
}
ssize_t write(int descriptor, const void* from, size_t size) {
  NEXT(ssize_t, "write", (int, const void*, size_t));
  return descriptor_fails("write", descriptor) ? -1 : next(descriptor, from, size);
}

#define AT_OFFSET(symbol, call, buffer)                                                    \
  ssize_t symbol(int descriptor, buffer data, size_t size, off_t offset) {                 \
    NEXT(ssize_t, #symbol, (int, buffer, size_t, off_t));                                  \
    return descriptor_fails(call, descriptor) ? -1 : next(descriptor, data, size, offset); \
  }
AT_OFFSET(pread, "read", void*)
AT_OFFSET(pread64, "read", void*)
AT_OFFSET(pwrite, "write", const void*)
AT_OFFSET(pwrite64, "write", const void*)

int fsync(int descriptor) {
  NEXT(int, "fsync", (int));
  return descriptor_fails("fsync", descriptor) ? -1 : next(descriptor);
}

#define TRUNCATE(symbol)                                                            \
  int symbol(int descriptor, off_t size) {                                          \
    NEXT(int, #symbol, (int, off_t));                                               \
    return descriptor_fails("ftruncate", descriptor) ? -1 : next(descriptor, size); \
  }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define MAP(symbol)                                                                              \
  void* symbol(void* at, size_t size, int protection, int flags, int descriptor, off_t offset) { \
    NEXT(void*, #symbol, (void*, size_t, int, int, int, off_t));                                 \
    if (descriptor >= 0 && descriptor_fails("mmap", descriptor)) return MAP_FAILED;              \
    return next(at, size, protection, flags, descriptor, offset);                                \
  }
MAP(mmap)
MAP(mmap64)

#define STATUS(symbol, kind)                                                      \
  int symbol(int descriptor, struct kind* status) {                               \
    NEXT(int, #symbol, (int, struct kind*));                                      \
    return descriptor_fails("fstat", descriptor) ? -1 : next(descriptor, status); \
  }
STATUS(fstat, stat)
STATUS(fstat64, stat64)

int rename(const char* from, const char* to) {
  NEXT(int, "rename", (const char*, const char*));
  return fails("rename", to) ? -1 : next(from, to);
}
int mkdir(const char* path, mode_t mode) {
  NEXT(int, "mkdir", (const char*, mode_t));
  return fails("mkdir", path) ? -1 : next(path, mode);
}
