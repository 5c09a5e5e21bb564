#include "eval/answer_cost.h"

#include <algorithm>
#include <limits>

#include "eval/evaluate.h"
#include "generate/step_cost.h"

namespace retort {

std::string describe_answers(const EvalSpec& spec, const Subject& subject,
                             const std::filesystem::path& path) {
  const bool answers = std::ranges::any_of(spec.tasks, [](const EvalTaskSpec& task) {
    return task.kind == "completion" || task.kind == "numeric" || task.kind == "code";
  });
  if (!answers) return "";
  const auto asked = with_spec(subject, spec);
  const auto writer = writer_of(asked);
  return describe_step(writer, std::numeric_limits<int64_t>::max(), path);
}

}  // namespace retort
