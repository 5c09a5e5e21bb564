#include "teacher/teach_served.h"

#include <cmath>

#include "base/error.h"
#include "base/files.h"
#include "base/stop.h"

namespace retort {
namespace {

constexpr double kRounding =
    1e-3;  // servers round log-probabilities; more than this above 1 is no distribution

// Which positions of a part a sample is the first to have: [i] is the position that tokens[0..i] name, or -1.
std::vector<int64_t> wanted_positions(const Sample& sample, const CachePlan& plan,
                                      const CachePlan::Part& part, std::vector<bool>& claimed) {
  std::vector<int64_t> wanted(sample.tokens.size(), -1);
  const auto here = contexts(sample.tokens);
  for (size_t i = 1; i < sample.tokens.size(); ++i) {
    if (sample.weights[i] == 0) continue;
    const auto position = plan.position.at(here[i - 1]) - part.first_position;
    if (position < 0 || claimed[static_cast<size_t>(position)]) continue;
    claimed[static_cast<size_t>(position)] = true;
    wanted[i - 1] = position;
  }
  return wanted;
}

void check_row(const TopRow& row, const Sample& sample, size_t at, int64_t vocabulary) {
  double sum = 0;
  bool sound = !row.ids.empty() && row.ids.size() == row.log_p.size();
  for (size_t j = 0; sound && j < row.ids.size(); ++j) {
    sound = row.ids[j] >= 0 && row.ids[j] < vocabulary && row.log_p[j] <= kRounding &&
            !std::isnan(row.log_p[j]) && (j == 0 || row.log_p[j] <= row.log_p[j - 1]);
    sum += std::exp(static_cast<double>(row.log_p[j]));
  }
  if (!sound)
    throw FormatError(fmt::format("the server's log-probabilities after token {} of {} are missing or none",
                                  at, printable(sample.id)));
  if (sum > 1 + kRounding)
    throw FormatError(
        fmt::format("the server's probabilities after token {} of {} add up to {:.4f}; does it change them "
                    "(temperature, penalties) before it reports them?",
                    at, printable(sample.id), sum));
}

// A recipe that names no model takes the only one of the server, which may be another tomorrow: the first is
// kept beside the parts.
void require_same_model(const std::filesystem::path& folder, const std::string& model) {
  const auto file = folder / "served-model";
  if (!std::filesystem::exists(file)) {
    std::filesystem::create_directories(folder);
    return write_text(file, model + "\n");
  }
  auto first = read_text(file);
  first = first.substr(0, first.find('\n'));
  if (first != model)
    throw RecipeError(
        fmt::format("{}: the cache was begun by the server's model '{}', which now answers as '{}'; serve "
                    "the first again, or name another folder in teacher.cache",
                    file.string(), printable(first), printable(model)));
}

}  // namespace

TeacherIdentity identity_of_served(const TeacherSpec& spec, const Tokenizer& student,
                                   const ChatTemplate& chat, double temperature) {
  return {fmt::format("served by {} as '{}'", spec.url, spec.server.model), student.hash(),
          std::string(chat.name), "served", temperature};
}

TeachProgress teach_served(const ServedTeachJob& job,
                           const std::function<void(const TeachProgress&)>& progress) {
  const auto plan = plan_cache(job.samples, job.keep.part_positions);
  const TeacherCache there(job.folder, job.made_from, plan, job.keep, job.vocabulary);
  TeachProgress state;
  const auto mine = parts_to_make(there, plan, job.shard, job.shards, state);
  if (mine.empty()) return state;
  auto& teacher = job.teacher();
  require_same_model(job.folder, teacher.model());
  if (progress) progress(state);
  const Draws draws(static_cast<uint64_t>(job.keep.seed), "teacher cache");
  for (const auto number : mine) {
    const auto& part = plan.parts[number];
    std::vector<BitWriter> rows(static_cast<size_t>(part.positions));
    std::vector<bool> claimed(rows.size());
    std::vector<Sample> asked;
    std::vector<std::vector<int64_t>> wanted;
    const auto ask = [&] {
      leave_if_stopped("asking the teacher; the finished parts are kept");
      const auto scored = teacher.score(asked, job.keep.head);
      for (size_t s = 0; s < asked.size(); ++s) {
        state.tokens += static_cast<int64_t>(asked[s].tokens.size());
        for (size_t i = 0; i < wanted[s].size(); ++i) {
          if (wanted[s][i] < 0) continue;
          const auto& row = scored.at(s).at(i);
          check_row(row, asked[s], i + 1, job.vocabulary);
          encode_top_row(row, job.vocabulary, job.keep,
                         {draws, static_cast<uint64_t>(part.first_position + wanted[s][i])},
                         rows[static_cast<size_t>(wanted[s][i])]);
          ++state.positions_done;
        }
      }
      if (progress) progress(state);
      asked.clear(), wanted.clear();
    };
    for (size_t s = part.first_sample; s < part.end_sample; ++s) {
      auto sample = job.samples[s];
      auto positions = wanted_positions(sample, plan, part, claimed);
      if (std::all_of(positions.begin(), positions.end(), [](int64_t position) { return position < 0; }))
        continue;  // other samples have them all
      asked.push_back(std::move(sample));
      wanted.push_back(std::move(positions));
      if (static_cast<int64_t>(asked.size()) >= job.samples_at_a_time) ask();
    }
    if (!asked.empty()) ask();
    write_cache_part(job.folder, number, job.made_from, rows);
    ++state.parts_done;
  }
  if (progress) progress(state);
  return state;
}

}  // namespace retort
