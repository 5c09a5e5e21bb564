// Who started this process, where that was not MPI.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace retort {

struct OtherStarter {
  std::string variable;  // that says so
  std::string who;       // usually sets it
  int64_t processes;
};

// torchrun, srun without PMIx or another MPI's mpiexec, which says that it started several processes; nullopt
// where Open MPI's mpirun did, or nobody says so. To be asked before MPI is joined: it sets variables too.
std::optional<OtherStarter> other_starter();

// Exit code 2 where MPI knows of this process alone: each would train everything, in the same folder.
void require_known_to_mpi(const std::optional<OtherStarter>& starter, int64_t ranks);

}  // namespace retort
