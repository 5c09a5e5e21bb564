/* What objects compiled beside a new glibc ask of it and glibc 2.31 lacks. */

/* libstdc++'s reference counts look at it (since glibc 2.32) and count without atomic operations while it is
   true. Never true is always right. */
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
