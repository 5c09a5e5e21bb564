#include "ranks/starter.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "base/error.h"

namespace retort {
namespace {

struct Known {
  const char* variable;
  const char* who;
};
// SLURM_NTASKS is set in a whole batch job, where mpirun may be what starts; this one in a step of srun's.
constexpr Known kStarters[] = {{"WORLD_SIZE", "torchrun"},
                               {"SLURM_STEP_NUM_TASKS", "srun without --mpi=pmix"},
                               {"PMI_SIZE", "another MPI's mpiexec"}};

int64_t number_in(const char* variable) {
  const auto* value = std::getenv(variable);
  const std::string_view text(value ? value : "");
  int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

}  // namespace

std::optional<OtherStarter> other_starter() {
  if (std::getenv("OMPI_COMM_WORLD_SIZE")) return std::nullopt;
  for (const auto& [variable, who] : kStarters)
    if (const auto processes = number_in(variable); processes > 1)
      return OtherStarter{variable, who, processes};
  return std::nullopt;
}

void require_known_to_mpi(const std::optional<OtherStarter>& starter, int64_t ranks) {
  if (!starter || ranks > 1) return;
  throw RecipeError(fmt::format(
      "this is one of {} processes ({}={}, as {} sets it), and MPI knows of it alone, so that each would "
      "train everything; start them by mpirun -n {} or srun --mpi=pmix, or unset {} to run one",
      starter->processes, starter->variable, starter->processes, starter->who, starter->processes,
      starter->variable));
}

}  // namespace retort
