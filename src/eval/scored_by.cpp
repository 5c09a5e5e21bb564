#include "eval/scored_by.h"

#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/start_program.h"
#include "eval/significance.h"

namespace retort {
namespace {

constexpr size_t kLongestLine = size_t{1} << 20;
constexpr const char* kDoing = "waiting for the program that scores answers";

[[noreturn]] void refuse(const std::string& task, const std::string& text) {
  throw RecipeError(fmt::format("eval task '{}': scored_by: {}", printable(task), text));
}

std::string program_of(const ScoredBySpec& spec, const std::string& task) {
  const auto file = find_program(spec.command[0]);
  if (file.empty())
    refuse(task, fmt::format("command: there is no program '{}'; expected a file that may be executed, or a "
                             "name on the PATH",
                             printable(spec.command[0])));
  return file;
}

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

// What the program wrote, as a message may show it: it has read the samples, and may repeat them.
std::string shown(const ScoredBySpec& spec, std::string_view text) {
  return spec.told ? printable(text)
                   : fmt::format("{} bytes (not shown: the recipe is private)", text.size());
}

// One line of scores, in the order of the spec.
std::vector<double> scores_of(std::string_view line, const ScoredBySpec& spec, const std::string& task,
                              size_t number) {
  const auto bad = [&](const std::string& text) {
    refuse(task, fmt::format("line {} of {}: {}", number, printable(spec.command[0]), text));
  };
  Json object;
  try {
    object = parse_json(line, "");
  } catch (const Error&) { bad("is no JSON: " + shown(spec, line)); }
  if (!object.is_object()) bad(fmt::format("expected an object of scores, found {}", shown(spec, line)));
  std::vector<double> scores;
  for (const auto& name : spec.scores) {
    const auto found = object.find(name);
    if (found == object.end()) bad(fmt::format("the score '{}' is missing", name));
    if (!found->is_number())
      bad(fmt::format("{}: expected a number, found {}", name, shown(spec, found->dump(-1, ' ', true))));
    scores.push_back(found->get<double>());
    if (!std::isfinite(scores.back())) bad(fmt::format("{}: is no finite number", name));
  }
  for (const auto& [name, value] : object.items())
    if (std::find(spec.scores.begin(), spec.scores.end(), name) == spec.scores.end())
      bad(fmt::format("{} is not among the scores that the recipe names",
                      spec.told ? fmt::format("'{}'", printable(name)) : "a name of " + shown(spec, name)));
  return scores;
}

// The lines that the program answers; `take` sees each as it comes.
template <class Take>
void ask_program(const ScoredBySpec& spec, const std::string& input, const std::string& task, Take take) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(spec.seconds);
  const auto late = [&] {
    refuse(task, fmt::format("{} took more than {} s; raise scored_by.seconds if it is that slow",
                             printable(spec.command[0]), spec.seconds));
  };
  StartedProgram program(program_of(spec, task), spec.command, -1, input);
  std::string begun;
  for (auto heard = program.hear(until, kDoing); !heard.empty(); heard = program.hear(until, kDoing)) {
    begun += heard;
    size_t at = 0;
    for (auto end = begun.find('\n'); end != std::string::npos; end = begun.find('\n', at)) {
      take(std::string_view(begun).substr(at, end - at));
      at = end + 1;
    }
    begun.erase(0, at);
    if (begun.size() > kLongestLine)
      refuse(task, printable(spec.command[0]) + " writes a line without an end");
  }
  const auto status = program.ended(until, kDoing);
  if (!status) late();
  const auto words = program.last_complaint();
  const auto said = words.empty() ? "" : "; it said: " + (spec.told ? words : shown(spec, words));
  if (WIFSIGNALED(*status))
    refuse(task,
           fmt::format("{} was ended by signal {}{}", printable(spec.command[0]), WTERMSIG(*status), said));
  if (WEXITSTATUS(*status) != 0)
    refuse(task, fmt::format("{} ended with exit code {}{}", printable(spec.command[0]), WEXITSTATUS(*status),
                             said));
  if (!begun.empty()) take(begun);
}

Interval interval_of(const std::vector<double>& scores) {
  return bootstrap_interval(scores.size(), [&](const std::vector<size_t>& drawn) {
    double sum = 0;
    for (const auto i : drawn) sum += scores[i];
    return sum / static_cast<double>(drawn.size());
  });
}

}  // namespace

void check_scored_by(const ScoredBySpec& spec, const std::string& task,
                     const std::vector<std::string>& own_metrics) {
  program_of(spec, task);
  std::set<std::string> seen;
  for (const auto& name : spec.scores) {
    if (!is_name(name))
      refuse(task,
             fmt::format("scores: '{}' is no name; expected small letters, digits and _", printable(name)));
    if (std::find(own_metrics.begin(), own_metrics.end(), name) != own_metrics.end())
      refuse(task, fmt::format("scores: '{}' is a metric of the task itself; give it another name", name));
    if (!seen.insert(name).second) refuse(task, fmt::format("scores: '{}' is named twice", name));
  }
}

void add_scores_of_program(const ScoredBySpec& spec, const std::vector<OrderedJson>& answers,
                           const std::string& task, const std::filesystem::path& scores_file,
                           TaskResult& result) {
  std::string input, written;
  for (const auto& answer : answers)
    input += answer.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
  std::vector<std::vector<double>> by_name(spec.scores.size());
  size_t lines = 0;
  ask_program(spec, input, task, [&](std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (++lines > answers.size())
      refuse(task, fmt::format("{} wrote more lines than the {} that it was given",
                               printable(spec.command[0]), answers.size()));
    const auto scores = scores_of(line, spec, task, lines);
    OrderedJson kept = {{"id", answers[lines - 1].at("id")}};
    for (size_t s = 0; s < scores.size(); ++s) {
      by_name[s].push_back(scores[s]);
      kept[spec.scores[s]] = scores[s];
    }
    written += kept.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
  });
  if (lines < answers.size())
    refuse(task, fmt::format("{} wrote {} lines; it was given {}, and each wants a line of scores",
                             printable(spec.command[0]), lines, answers.size()));
  write_text(scores_file, written);
  for (size_t s = 0; s < spec.scores.size(); ++s) {
    double sum = 0;
    for (const auto score : by_name[s]) sum += score;
    result.metrics.emplace_back(spec.scores[s], sum / static_cast<double>(lines));
    result.intervals.emplace_back(spec.scores[s], interval_of(by_name[s]));
  }
}

}  // namespace retort
