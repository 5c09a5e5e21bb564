// `--profile`: what a run's operations cost, and how far that is from what the machine can do.
#pragma once
#include <string>

#include "base/profile.h"
#include "report/page.h"
#include "run/open_run.h"

namespace retort {

// What this machine can do, measured: multiply-adds on registers alone by one thread, and memory read by all
// threads together.
struct MachineSpeed {
  std::string kernel;  // of the products: "avx512_bf16"
  double gflops = 0;   // one thread
  double gbytes = 0;   // all threads
  int64_t threads = 1;
};
MachineSpeed machine_speed(at::ScalarType compute, int64_t threads);

// A row an operation: calls, seconds, GFLOP/s, GB/s, and their shares of what the machine can do.
Table profile_table(const Profile& profile, const MachineSpeed& machine);
// One line about all of it.
std::string profile_summary(const Profile& profile, const MachineSpeed& machine);
// What the record of a run costs: ledger entries brought to the disk, hashes of files and of batches, as a
// share of the time from start_profile() on. Those of several threads are added.
std::string record_summary(const Profile& profile);

// Ends the profile, writes profile.json into the run's folder and prints the table; nothing where the run
// found all its work done.
void report_profile(Run& run);

}  // namespace retort
