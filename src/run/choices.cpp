#include "run/choices.h"

#include <string>

#include "base/error.h"
#include "base/parcel.h"
#include "ops/gemm.h"
#include "ops/workers.h"
#include "run/word.h"

namespace retort {
namespace {

const GemmKernel& kernel_named(const std::string& name, const Peers& peers) {
  std::string known;
  for (const auto* kernel : gemm_kernels()) {
    if (name == kernel->name) return *kernel;
    known += (known.empty() ? "" : ", ") + std::string(kernel->name);
  }
  throw RecipeError(
      fmt::format("{} computes products with the kernel {}, which this CPU lacks (it has {}); start all "
                  "ranks on CPUs of one kind, or name a kernel that all have: mpirun -x RETORT_KERNEL=NAME",
                  peers.name(0), printable(name), known));
}

}  // namespace

void say_choices(Peers& peers, at::ScalarType compute) {
  Parcel choices;
  choices.put(compute).put(std::string(gemm_kernel(Operand::bf16).name)).put(usable_threads(0));
  say_text(peers, choices.bytes());
}

HeardChoices::HeardChoices(Peers& peers) {
  Parcel choices(hear_text(peers));
  compute_ = choices.take<at::ScalarType>();
  kernel_.emplace(kernel_named(choices.take<std::string>(), peers));
  cores_ = choices.take<int64_t>();
}

void HeardChoices::apply(Recipe& recipe) const {
  const auto set = [&](int64_t& threads) {
    if (threads == 0) threads = cores_;
  };
  set(recipe.train.threads);
  set(recipe.eval.threads);
  if (recipe.teacher) set(recipe.teacher->threads);
}

}  // namespace retort
