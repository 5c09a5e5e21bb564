#include "teacher/teach_imported.h"

#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/stop.h"

namespace retort {
namespace {

constexpr const char* kConfig = "compression_config.yaml";

// How often a row's tokens hold the token beside it, the one after (where it belongs) and the one after that.
class Offsets {
 public:
  void count(const ScoredText& text) {
    for (size_t p = 0; p < text.rows.size() && p + 2 < text.tokens.size(); ++p)
      for (size_t offset = 0; offset < hits_.size(); ++offset) {
        const auto& ids = text.rows[p].ids;
        hits_[offset] += std::find(ids.begin(), ids.end(), text.tokens[p + offset]) != ids.end();
      }
  }
  // A teacher knows the token that follows better than its neighbours; five standard deviations the other way
  // are no chance.
  void require_next(const std::filesystem::path& folder) const {
    for (const size_t other : {0, 2}) {
      const auto here = static_cast<double>(hits_[1]), there = static_cast<double>(hits_[other]);
      if (there - here <= 5 * std::sqrt(there + here)) continue;
      throw FormatError(fmt::format(
          "{}: the likeliest tokens of its rows hold the token {} more often ({}) than the one that follows "
          "({}); expected row p to say what follows token p, was the row of the first position {}?",
          printable(folder.string()), other == 0 ? "beside them" : "two places on", hits_[other], hits_[1],
          other == 0 ? "kept" : "left out"));
    }
  }

 private:
  std::array<int64_t, 3> hits_ = {};
};

// The supervised positions of a sample that have no row.
int64_t missing_of(const Sample& sample, const CachePlan& plan, const std::vector<bool>& done) {
  int64_t missing = 0;
  const auto here = contexts(sample.tokens);
  for (size_t i = 1; i < sample.tokens.size(); ++i)
    if (sample.weights[i] != 0) missing += !done[static_cast<size_t>(plan.position.at(here[i - 1]))];
  return missing;
}

void require_covered(const ImportJob& job, const CachePlan& plan, const std::vector<bool>& done,
                     const ImportProgress& state) {
  size_t uncovered = 0;
  std::string first;
  int64_t first_missing = 0;
  for (const auto& sample : job.samples) {
    const auto missing = missing_of(sample, plan, done);
    if (missing == 0) continue;
    if (++uncovered == 1) first = sample.id, first_missing = missing;
  }
  if (uncovered == 0) return;
  throw FormatError(fmt::format(
      "teacher.distillkit: {} of {} samples are not covered by the {} texts of the folder; the first is {} "
      "({} of its positions have no row). Samples must be the same tokens from the start of the text: "
      "check data.template, BOS and where long texts are cut",
      uncovered, job.samples.size(), state.texts, printable(first), first_missing));
}

}  // namespace

std::vector<std::filesystem::path> distillkit_parts(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder))
    throw FormatError(fmt::format("teacher.distillkit: {}: no such folder", printable(folder.string())));
  const auto name_of = [](int64_t number) { return fmt::format("data_{}.parquet", number); };
  std::vector<std::filesystem::path> parts;
  while (std::filesystem::exists(folder / name_of(static_cast<int64_t>(parts.size()))))
    parts.push_back(folder / name_of(static_cast<int64_t>(parts.size())));
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    if (!name.ends_with(".parquet") || std::find(parts.begin(), parts.end(), folder / name) != parts.end())
      continue;
    throw FormatError(fmt::format(
        "{}: {} is there and {} is not; expected data_0.parquet, data_1.parquet and so on, is the download "
        "complete?",
        printable(folder.string()), printable(name), name_of(static_cast<int64_t>(parts.size()))));
  }
  if (parts.empty())
    throw FormatError(fmt::format("{}: has no data_0.parquet; expected a folder that DistillKit wrote",
                                  printable(folder.string())));
  return parts;
}

std::string distillkit_files(const std::filesystem::path& folder, const std::filesystem::path& cache) {
  const auto first = cache_part_file(cache, 0);
  if (!std::filesystem::exists(folder) && std::filesystem::exists(first))
    return read_hdf5(first.string(), "a teacher cache", {"teacher"}, {{"rows", Hdf5Element::u8}})
        .attributes[0];
  const auto parts = distillkit_parts(folder);
  Sha256 all;
  for (const auto& part : parts) all.add(part.filename().string() + " " + sha256_file(part) + "\n");
  return fmt::format("DistillKit, {} files, sha256 of their hashes {}, {} {}", parts.size(), all.hex(),
                     kConfig, sha256_file(file_beneath(folder, kConfig)));
}

TeacherIdentity identity_of_imported(const TeacherSpec& spec, const std::filesystem::path& cache,
                                     const Tokenizer& student, const ChatTemplate& chat, double temperature) {
  return {distillkit_files(spec.distillkit, cache), student.hash(), std::string(chat.name),
          fmt::format("imported, vocabulary {}", student.size()), temperature};
}

ImportProgress teach_imported(const ImportJob& job,
                              const std::function<void(const ImportProgress&)>& progress) {
  const auto plan = plan_cache(job.samples, job.keep.part_positions);
  const TeacherCache there(job.folder, job.made_from, plan, job.keep, job.vocabulary);
  ImportProgress state;
  const auto parts = parts_to_make(there, plan, 0, 1, state.teach);
  if (parts.empty()) return state;
  const auto texts = job.open();
  const Draws draws(static_cast<uint64_t>(job.keep.seed), "teacher cache");
  std::vector<BitWriter> rows(static_cast<size_t>(plan.positions()));
  std::vector<bool> done(rows.size());
  Offsets offsets;
  for (ScoredText text; texts->next(text);) {
    leave_if_stopped("reading a teacher's log-probabilities; nothing was written");
    offsets.count(text);
    const auto here = contexts(text.tokens);
    bool used = false;
    for (size_t p = 0; p < text.rows.size(); ++p) {
      const auto found = plan.position.find(here[p]);
      if (found == plan.position.end()) continue;
      used = true;
      const auto position = static_cast<size_t>(found->second);
      if (done[position]) continue;
      done[position] = true;
      encode_top_row(text.rows[p], job.vocabulary, job.keep, {draws, position}, rows[position]);
      ++state.teach.positions_done;
    }
    ++state.texts;
    state.used += used;
    state.teach.tokens += static_cast<int64_t>(text.tokens.size());
    if (progress) progress(state);
  }
  state.remarks = texts->remarks();
  offsets.require_next(job.source);
  require_covered(job, plan, done, state);
  for (const auto number : parts) {
    const auto& part = plan.parts[number];
    const auto first = rows.begin() + part.first_position;
    write_cache_part(job.folder, number, job.made_from,
                     {std::make_move_iterator(first), std::make_move_iterator(first + part.positions)});
    ++state.teach.parts_done;
  }
  return state;
}

}  // namespace retort
