// What may fail after the training without ending the run.
#include <new>
#include <system_error>

#include "base/error.h"
#include "run/run_stages.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

// Whether an error line begins with a file that is not the run's: "data/x.jsonl:7: ...".
bool names_a_users_file(const std::string& line, const fs::path& folder) {
  auto name = line.substr(0, line.find(": "));
  std::error_code ignored;
  if (!fs::exists(name, ignored)) name = name.substr(0, name.rfind(':'));  // with the number of a line
  if (name.empty() || !fs::exists(name, ignored)) return false;
  const auto inside =
      fs::weakly_canonical(name, ignored).lexically_relative(fs::weakly_canonical(folder, ignored));
  return inside.empty() || inside.native().starts_with("..");
}

}  // namespace

StageFailure failure_of(const std::string& stage, const fs::path& folder, const std::exception& error) {
  const auto ours = [&](const std::string& what) -> StageFailure {
    return {stage, what + "; this is a mistake of retort's, not of your recipe or data; please report it",
            Exit::machine_failed};
  };
  if (dynamic_cast<const FormatError*>(&error) && !names_a_users_file(error.what(), folder))
    return ours(error.what());
  if (const auto* known = dynamic_cast<const Error*>(&error)) return {stage, known->what(), known->code};
  if (dynamic_cast<const std::bad_alloc*>(&error)) return {stage, "out of memory", Exit::machine_failed};
  if (dynamic_cast<const std::system_error*>(&error))
    return {stage, printable(error.what()), Exit::machine_failed};
  const std::string_view text = error.what();  // LibTorch's carry a stack trace after the first line
  return ours(printable(text.substr(0, text.find('\n'))));
}

void attempt(const Run& run, const std::string& stage, std::vector<StageFailure>& failures,
             const std::function<void()>& work) {
  try {
    return work();
  } catch (const Stopped&) { throw; } catch (const std::exception& error) {
    failures.push_back(failure_of(stage, run.folder(), error));
  }
  run.say(stage, "failed: " + failures.back().reason);
}

Exit exit_of(const std::vector<StageFailure>& failures, Exit otherwise) {
  for (const auto exit : {Exit::machine_failed, Exit::bad_input})
    for (const auto& failure : failures)
      if (failure.exit == exit) return exit;
  return otherwise;
}

}  // namespace retort
