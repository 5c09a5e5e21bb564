// Runs completions with their problems' tests as a code task with `execute` does, for
// tools/peers/check_code.py: reads a file of problems and, line by line beside them, one of completions
// ({"completion"}), and writes
// {"task_id", "passed", "problem"} for each.
//   run_problems PROBLEMS.jsonl COMPLETIONS.jsonl
#include <fmt/format.h>

#include <fstream>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "eval/code.h"
#include "eval/run_code.h"

namespace {

using namespace retort;

int run_all(const char* problems_file, const char* completions_file) {
  const auto problems = read_code_problems(problems_file, 0);
  require_tests(problems, "code");
  std::ifstream lines(completions_file);
  std::vector<std::string> programs;
  for (std::string line; std::getline(lines, line) && programs.size() < problems.size();)
    programs.push_back(test_program(problems[programs.size()],
                                    parse_json(line, completions_file).at("completion").get<std::string>()));
  if (programs.size() != problems.size())
    throw RecipeError(fmt::format("{}: {} completions for {} problems", completions_file, programs.size(),
                                  problems.size()));
  const auto runs = run_python(programs, {});
  for (size_t i = 0; i < runs.size(); ++i) {
    const Json line = {
        {"task_id", problems[i].task_id}, {"passed", runs[i].passed}, {"problem", runs[i].problem}};
    fmt::print("{}\n", line.dump());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: run_problems PROBLEMS.jsonl COMPLETIONS.jsonl\n");
    return 2;
  }
  try {
    return run_all(argv[1], argv[2]);
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
