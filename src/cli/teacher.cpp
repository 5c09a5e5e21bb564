#include "cli/teacher.h"

#include <chrono>

#include "base/error.h"
#include "data/dataset.h"
#include "report/progress.h"

namespace retort {

namespace {

std::string describe(const TeacherCache& cache, const TeachProgress& done) {
  const auto missing = cache.missing_parts().size();
  return fmt::format("{}: {} of {} positions, {} ({:.1f} bytes a position){}{}", cache.folder().string(), cache.positions(), cache.planned_positions(), bytes(cache.file_bytes()),
                     static_cast<double>(cache.file_bytes()) / static_cast<double>(std::max<int64_t>(cache.positions(), 1)), missing ? fmt::format("; {} parts are left to other shards", missing) : "",
                     done.parts == 0 ? "; nothing was missing" : "");
}

}  // namespace

TeacherOfRun::TeacherOfRun(const Recipe& recipe, const Tokenizer& student, const ChatTemplate& chat, const std::vector<Sample>& samples)
    : recipe_(recipe), student_(student), chat_(chat), samples_(samples), distill_(recipe.distill.value_or(DistillSpec{})) {}

std::filesystem::path TeacherOfRun::cache_folder() const {
  const auto& named = recipe_.teacher->cache;
  return named.empty() ? std::filesystem::path(recipe_.run.folder) / "teacher" : std::filesystem::path(named);
}

Teacher& TeacherOfRun::teacher() {
  if (!teacher_) teacher_ = load_teacher(*recipe_.teacher, student_, cache_folder());
  return *teacher_;
}

TeachJob TeacherOfRun::job() {
  const auto& spec = *recipe_.teacher;
  auto& asked = teacher();
  const auto identity = identity_of(spec, asked, chat_, distill_.temperature);
  return {*asked.loaded.model, asked.compute, asked.vocabulary, distill_.temperature, samples_, cache_folder(), cache_provenance(identity, samples_, spec.keep), spec.keep,
          spec.row_tokens,     spec.threads,  0,                1};
}

ServedTeacher& TeacherOfRun::served_teacher() {
  if (!served_) served_ = connect_teacher(*recipe_.teacher, student_);
  return *served_;
}

ServedTeachJob TeacherOfRun::served_job() {
  const auto& spec = *recipe_.teacher;
  const auto identity = identity_of_served(spec, student_, chat_, distill_.temperature);
  return {[this]() -> ServedTeacher& { return served_teacher(); }, student_.size(), samples_, cache_folder(), cache_provenance(identity, samples_, spec.keep), spec.keep,
          4 * spec.server.batch * spec.server.concurrent, 0, 1};
}

std::string TeacherOfRun::complete_served(int64_t shard, int64_t shards) {
  auto work = served_job();
  work.shard = shard, work.shards = shards;
  std::optional<Progress> progress;
  const auto done = teach_served(work, [&](const TeachProgress& state) {
    if (!progress) progress.emplace("teach", state.positions, "positions");
    progress->update(state.positions_done, served_ && served_->retries() > 0 ? fmt::format("{} requests sent again", served_->retries()) : "");
  });
  progress.reset();
  const TeacherCache cache(work.folder, work.made_from, plan_cache(samples_, work.keep.part_positions), work.keep, work.vocabulary);
  return describe(cache, done);
}

std::string TeacherOfRun::complete(int64_t shard, int64_t shards) {
  if (served()) return complete_served(shard, shards);
  auto work = job();
  work.shard = shard, work.shards = shards;
  const auto start = std::chrono::steady_clock::now();
  std::optional<Progress> progress;
  const auto done = teach(work, [&](const TeachProgress& state) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (state.parts == 0) return;
    if (!progress) progress.emplace("teach", state.positions, "positions");
    progress->update(state.positions_done, fmt::format("{:.0f} teacher tokens/s", static_cast<double>(state.tokens) / std::max(seconds, 1e-9)));
  });
  progress.reset();
  const TeacherCache cache(work.folder, work.made_from, plan_cache(samples_, work.keep.part_positions), work.keep, work.vocabulary);
  return describe(cache, done);
}

Objective TeacherOfRun::objective() {
  if (recipe_.teacher->live) {
    auto& asked = teacher();
    const std::shared_ptr<const Model> model = std::move(asked.loaded.model);
    const auto live = LiveTeacher{model, asked.compute, asked.vocabulary};
    teacher_.reset();
    return live_distillation(distill_, live);
  }
  complete();
  if (served()) {
    served_.reset();
    const auto work = served_job();
    return cached_distillation(distill_, std::make_shared<TeacherCache>(work.folder, work.made_from, plan_cache(samples_, work.keep.part_positions), work.keep, work.vocabulary));
  }
  const auto work = job();
  auto cache = open_whole_cache(work);
  teacher_.reset();   // the student needs the memory
  return cached_distillation(distill_, std::move(cache));
}

std::string collect_answers(const Recipe& recipe, const Tokenizer& student) {
  const auto& spec = *recipe.teacher;
  const auto all = read_records(recipe.data);
  const auto held_out = held_out_records(recipe.data, all);
  std::vector<Record> records;
  for (size_t i = 0; i < all.size(); ++i)
    if (!held_out[i]) records.push_back(all[i]);
  std::unique_ptr<ServedTeacher> teacher;
  const auto connected = [&]() -> ServedTeacher& {
    if (!teacher) teacher = connect_teacher(spec, student);
    return *teacher;
  };
  std::optional<Progress> progress;
  const auto done = sample_answers(records, *spec.answers, spec.server.model, 4 * spec.server.concurrent, connected, [&](const AnswersProgress& state) {
    if (!progress) progress.emplace("answers", state.answers, "answers", state.done);
    progress->update(state.done, fmt::format("{} ended by themselves{}", state.finished, teacher && teacher->retries() > 0 ? fmt::format(", {} requests sent again", teacher->retries()) : ""));
  });
  progress.reset();
  return fmt::format("{}: {} answers to {} prompts, {} ended by themselves{}", spec.answers->file, done.done, records.size(), done.finished, done.asked == 0 ? "; nothing was missing" : "");
}

}  // namespace retort
