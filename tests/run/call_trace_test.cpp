// Lines as strace 6.1 wrote them.
#include "run/call_trace.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

using Paths = std::set<std::string>;

TEST(CallTrace, TellsFilesOfTheProgramFromThoseOfProgramsThatItStarted) {
  const auto trace = parse_trace(R"(
20510 execve("/opt/retort", ["/opt/retort", "run", "r.yaml"], 0x7fffe2265220 /* 37 vars */) = 0
20510 openat(AT_FDCWD</work>, "r.yaml", O_RDONLY|O_CLOEXEC) = 3</work/r.yaml>
20510 openat(AT_FDCWD</work>, "/work/runs", O_RDONLY|O_NONBLOCK|O_CLOEXEC|O_DIRECTORY) = 3</work/runs>
20510 openat(3</work/runs>, "w.txt", O_WRONLY|O_CREAT|O_CLOEXEC, 0777) = 4</work/runs/w.txt>
20510 openat(AT_FDCWD</work>, "absent", O_RDONLY) = -1 ENOENT (No such file or directory)
20510 vfork( <unfinished ...>
20515 execve("/root/bin/python3", ["python3", "score.py"], 0x7fff /* 37 vars */) = -1 ENOENT (No such file)
20515 execve("/usr/bin/python3", ["python3", "score.py"], 0x7fffe2265220 /* 37 vars */ <unfinished ...>
20510 <... vfork resumed>)              = 20515
20515 <... execve resumed>)             = 0
20515 openat(AT_FDCWD</work>, "score.py", O_RDONLY) = 3</work/score.py>
20515 clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x7f53e28fa000} => {parent_tid=[20516]}, 88) = 20516
20516 openat(AT_FDCWD</work>, "out.txt", O_RDWR|O_CREAT, 0666) = 4</work/out.txt>
20510 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=20515} ---
)");
  EXPECT_EQ(trace.programs, (std::vector<std::string>{"/opt/retort", "/usr/bin/python3"}));
  EXPECT_EQ(trace.read, (Paths{"/work/r.yaml"}));
  EXPECT_EQ(trace.written, (Paths{"/work/runs/w.txt"}));
  EXPECT_EQ(trace.read_by_others, (Paths{"/work/score.py"}));
  EXPECT_EQ(trace.written_by_others, (Paths{"/work/out.txt"}));
  EXPECT_EQ(trace.sockets, Paths{});
}

TEST(CallTrace, ReadsCallsThatStandInTwoLinesAndNamesThatLookLikeCode) {
  const auto trace = parse_trace(
      "20512 openat(AT_FDCWD</tmp>, \"/tmp/t.py\", O_RDONLY|O_CLOEXEC <unfinished ...>\n"
      "20513 openat(AT_FDCWD</tmp>, \"O_WRONLY) = 9\", O_RDONLY) = 5</tmp/O_WRONLY) = 9>\n"
      "20512 <... openat resumed>)             = 4</tmp/t.py>\n"
      "20512 openat(AT_FDCWD</tmp>, \"a \\\"q\\\" <x>\\303\\251\", O_RDONLY) = 3</tmp/a \\\"q\\\" "
      "\\74x\\76\\303\\251>\n"
      "20512 creat(\"/tmp/gone\", 0600) = 6</tmp/gone (deleted)>\n"
      "20512 openat(AT_FDCWD</tmp>, \"cut off");
  EXPECT_EQ(trace.read, (Paths{"/tmp/t.py", "/tmp/O_WRONLY) = 9", "/tmp/a \"q\" <x>\xc3\xa9"}));
  EXPECT_EQ(trace.written, (Paths{"/tmp/gone"}));
}

TEST(CallTrace, NamesEverySocketThatLeavesTheMachine) {
  const auto trace = parse_trace(
      "7 socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3<socket:[78190]>\n"
      "7 connect(3<socket:[78190]>, {sa_family=AF_UNIX, sun_path=\"/run/x\"}, 110) = -1 ENOENT (No such "
      "file)\n"
      "7 socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE) = 3<socket:[78191]>\n"
      "7 connect(4<socket:[78190]>, {sa_family=AF_INET, sin_port=htons(9), "
      "sin_addr=inet_addr(\"127.0.0.1\")}, "
      "16) = -1 ENETUNREACH (Network is unreachable)\n");
  EXPECT_EQ(trace.sockets, (Paths{"AF_INET", "AF_NETLINK"}));
}

TEST(CallTrace, FilesOfTheSystemAreNobodysData) {
  for (const auto* file : {"/usr/lib/x86_64-linux-gnu/libc.so.6", "/opt/torch/libtorch_cpu.so",
                           "/home/anna/lib/libcudart-d0da41ae.so.11.0", "/proc/self/maps", "/etc/passwd",
                           "/run/nscd/passwd", "/var/lib/sss/mc/passwd"})
    EXPECT_TRUE(is_of_the_system(file)) << file;
  for (const auto* file :
       {"/home/anna/notes.sorted.jsonl", "/home/anna/x.source.csv", "/home/anna/a.so.jsonl",
        "/home/anna/libx.so.d/notes.jsonl", "/var/home/anna/notes.jsonl", "/var/lib/clinic/notes.csv",
        "/run/media/anna/notes.csv", "/home/anna/etc/x"})
    EXPECT_FALSE(is_of_the_system(file)) << file;
}

TEST(CallTrace, ACacheIsItsFilesAndWhatTheyAreWrittenAs) {
  const std::string place = "/data/cache";
  for (const auto* file : {"/data/cache", "/data/cache/part-00000.h5", "/data/cache.part-123",
                           "/data/cache.part-123/part-00000.h5", "/data/cache.old.part-7/x"})
    EXPECT_TRUE(is_of_cache(file, place)) << file;
  for (const auto* file : {"/data/cache-notes.txt", "/data/cache.txt", "/data/cache2/x", "/data/cache.d/x",
                           "/data/cach", "/data/cache.part-1b"})
    EXPECT_FALSE(is_of_cache(file, place)) << file;
  EXPECT_TRUE(is_inside("/runs/a", "/runs/a") && is_inside("/runs/a/b/c", "/runs/a"));
  EXPECT_FALSE(is_inside("/runs/ab", "/runs/a"));
}

}  // namespace
}  // namespace retort
