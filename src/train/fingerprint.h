// What must be the same for a resumed run to end with the same bytes.
#pragma once
#include "train/train.h"

namespace retort {

// The linker's hash of this program's code and data, from its loaded NT_GNU_BUILD_ID note.
std::string build_id();

// job.fingerprint and what only train() knows: threads (unless train.batch.parts cuts the steps), CPU,
// compute type, this build, the train section, the samples.
Fingerprint full_fingerprint(const TrainSpec& spec, const TrainJob& job, int64_t threads);

// Without what names the machine and the build: all that matters once nothing is left to compute.
Fingerprint without_machine(Fingerprint fingerprint);

// "threads: 2 then, 1 now; ...": what differs, or "". The words say whose values they are.
std::string differences(const Fingerprint& then, const Fingerprint& now, const std::string& of_then = "then",
                        const std::string& of_now = "now");

}  // namespace retort
