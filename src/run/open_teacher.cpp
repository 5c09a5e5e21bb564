#include "run/open_teacher.h"

#include <chrono>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "base/files.h"
#include "base/peers.h"
#include "base/tell.h"
#include "data/dataset.h"
#include "distill/uld.h"
#include "models/layer_stream.h"
#include "models/own_templates.h"
#include "models/weight_hash.h"
#include "ops/device.h"
#include "report/progress.h"
#include "run/rank_memory.h"
#include "schedule/divided_read.h"
#include "schedule/layer_cut.h"
#include "teacher/bridged_cache.h"
#include "train/peers.h"

namespace retort {

namespace {

std::string describe(const TeacherCache& cache, const TeachProgress& done) {
  const auto missing = cache.missing_parts().size();
  return fmt::format(
      "{}: {} of {} positions, {} ({:.1f} bytes a position){}{}", cache.folder().string(), cache.positions(),
      cache.planned_positions(), bytes(cache.file_bytes()),
      static_cast<double>(cache.file_bytes()) / static_cast<double>(std::max<int64_t>(cache.positions(), 1)),
      missing ? fmt::format("; {} parts are left to other shards", missing) : "",
      done.parts == 0 ? "; nothing was missing" : "");
}

FormatError not_imported(const Recipe& recipe, const std::string& found) {
  return FormatError(fmt::format(
      "{}: {}; `retort-import RECIPE` fills it from teacher.distillkit ({}), this program reads no Parquet "
      "files",
      printable(teacher_cache_folder(recipe).string()), found, printable(recipe.teacher->distillkit)));
}

bool has_other_tokens(const DistillSpec& spec, const Tokenizer& teacher, const Tokenizer& student) {
  return spec.alignment == "bytes" || (spec.alignment == "auto" && teacher.hash() != student.hash());
}

// A teacher of other tokens is asked in its own template.
const ChatTemplate& template_of(const TeacherSpec& spec, const LoadedModel& teacher) {
  return choose_chat_template({spec.chat_template, {}, "teacher.template"}, own_templates(teacher),
                              *teacher.tokenizer);
}

constexpr auto kLiveOfOtherTokens =
    "teacher.live: this teacher has another tokenizer; its probabilities are carried to the student's tokens "
    "from a cache, set it to false";

}  // namespace

void require_usable_teacher(const Recipe& recipe, const LoadedModel& student) {
  if (!recipe.distill) return;
  if (student.model->stream() &&
      (recipe.teacher->live || !recipe.distill->features.empty() || recipe.distill->on_policy))
    throw RecipeError(
        "model.schedule: a student that is read layer by layer learns from a teacher's cache alone; set "
        "teacher.live to false, leave distill.features and distill.on_policy out, or set model.schedule to "
        "tokens");
  if (!recipe.teacher->url.empty()) return;
  if (!recipe.teacher->distillkit.empty()) {
    const auto cache = teacher_cache_folder(recipe);
    const auto names_files_that_are_there = distillkit_files(recipe.teacher->distillkit, cache);
    if (!std::filesystem::exists(cache_part_file(cache, 0)))
      throw not_imported(recipe, "no teacher cache is there");
    return;
  }
  const auto& path = recipe.teacher->path;
  require_model_path("teacher.path: " + printable(path), path);
  const auto teacher = load_model(model_spec(*recipe.teacher));
  if (recipe.distill->alignment == "tokens" || recipe.distill->on_policy)
    require_same_tokens(*teacher.tokenizer, *student.tokenizer);
  if (has_other_tokens(*recipe.distill, *teacher.tokenizer, *student.tokenizer)) {
    template_of(*recipe.teacher, teacher);
    if (recipe.teacher->live) throw RecipeError(kLiveOfOtherTokens);
  }
  const Features names_layers_that_are_there(recipe.distill->features, student.model->config,
                                             teacher.model->config, 0);
}

TeacherSize teacher_size(const Recipe& recipe, Model& student, bool by_ranks) {
  if (!recipe.distill || !recipe.teacher->at_hand()) return {};
  const auto loaded = load_weights({.path = recipe.teacher->path,
                                    .schedule = recipe.teacher->schedule,
                                    .memory = recipe.teacher->memory,
                                    .scratch = recipe.teacher->scratch});
  const auto elements = [](Model& model) {
    double count = 0;
    for (const auto* layer : model.linears())
      count += static_cast<double>(layer->weight.rows) * static_cast<double>(layer->weight.columns);
    return count;
  };
  auto& model = *loaded.model;
  const auto linear = elements(model);
  uint64_t bytes = model.embedding.weight.stored_bytes();
  if (!model.config.tied_head) bytes += model.head.linear.weight.stored_bytes();
  const auto& held = recipe.teacher->weights;
  const bool mapped = !model.stream() && held == "keep";
  if (const auto* stream = model.stream()) {
    const auto& budget = stream->budget();
    // The layers of a rank stay, where they have room.
    bytes += (by_ranks ? std::min(budget.stored, std::max(budget.weights, budget.room)) : budget.weights) +
             budget.states;
  } else if (held == "keep")
    for (const auto* layer : model.linears()) bytes += layer->weight.stored_bytes();
  else
    bytes += static_cast<uint64_t>(linear * (held == "nf4"    ? 0.5625
                                             : held == "int8" ? 1
                                             : held == "f32"  ? 4
                                                              : 2));
  return {bytes, mapped ? std::min(bytes, mapped_bytes(model)) : 0, linear / std::max(1.0, elements(student)),
          recipe.teacher->live || recipe.distill->on_policy.has_value(),
          model.stream() ? bytes_of_layers(model) : std::vector<uint64_t>()};
}

TeacherOfRun::TeacherOfRun(const Recipe& recipe, const Tokenizer& student, const ChatTemplate& chat,
                           const Samples& samples)
    : recipe_(recipe),
      student_(student),
      chat_(chat),
      samples_(samples),
      distill_(recipe.distill.value_or(DistillSpec{})) {}

std::filesystem::path teacher_cache_folder(const Recipe& recipe) {
  const auto& named = recipe.teacher->cache;
  return named.empty() ? std::filesystem::path(recipe.run.folder) / "teacher" : std::filesystem::path(named);
}

void give_cache(Peers& peers, const Recipe& recipe) {
  const auto folder = teacher_cache_folder(recipe);
  const auto part = [&](uint64_t number) { return cache_part_file(folder, number); };
  uint64_t parts = 0;
  while (std::filesystem::exists(part(parts))) ++parts;
  broadcast(peers, 0, std::as_writable_bytes(std::span(&parts, 1)));
  for (uint64_t i = 0; i < parts; ++i) {
    std::ifstream file(part(i), std::ios::binary);
    broadcast_text(peers, 0, {std::istreambuf_iterator<char>(file), {}});
  }
}

void take_cache(Peers& peers, const Recipe& recipe) {
  const auto folder = teacher_cache_folder(recipe);
  make_folder(folder);
  uint64_t parts = 0;
  broadcast(peers, 0, std::as_writable_bytes(std::span(&parts, 1)));
  for (uint64_t i = 0; i < parts; ++i) write_text(cache_part_file(folder, i), broadcast_text(peers, 0, ""));
}

Teacher& TeacherOfRun::teacher() {
  if (teacher_) return *teacher_;
  teacher_ = load_teacher(*recipe_.teacher, teacher_cache_folder(recipe_),
                          open_device(recipe_.device, recipe_.device_memory));
  // Ranks that divide its layers divide this too.
  if (!peers_ || !teacher_->loaded.model->stream()) teacher_->loaded.sha256.begin();
  const auto& tokenizer = *teacher_->loaded.tokenizer;
  if (distill_.alignment == "tokens") require_same_tokens(tokenizer, student_);
  other_tokens_ = has_other_tokens(distill_, tokenizer, student_);
  return *teacher_;
}

bool TeacherOfRun::other_tokens() {
  teacher();
  return other_tokens_;
}

const ChatTemplate& TeacherOfRun::chat() {
  return other_tokens() ? template_of(*recipe_.teacher, teacher().loaded) : chat_;
}

const Dataset& TeacherOfRun::dataset() {
  if (!dataset_)
    dataset_ = build_dataset(recipe_.data, *teacher().loaded.tokenizer, chat(), recipe_.train.threads);
  return *dataset_;
}

TeachJob TeacherOfRun::job() {
  const auto& spec = *recipe_.teacher;
  auto& asked = teacher();
  const auto identity = identity_of(spec, asked, chat(), distill_.temperature);
  return {*asked.loaded.model,
          asked.compute,
          asked.vocabulary,
          distill_.temperature,
          taught(),
          teacher_cache_folder(recipe_),
          cache_provenance(identity, taught(), spec.keep),
          spec.keep,
          spec.pass_tokens,
          spec.threads,
          0,
          1};
}

ServedTeacher& TeacherOfRun::served_teacher() {
  if (!served_) served_ = connect_teacher(*recipe_.teacher, student_);
  return *served_;
}

ServedTeachJob TeacherOfRun::served_job() {
  const auto& spec = *recipe_.teacher;
  const auto identity = identity_of_served(spec, student_, chat_, distill_.temperature);
  return {[this]() -> ServedTeacher& { return served_teacher(); },
          student_.size(),
          samples_,
          teacher_cache_folder(recipe_),
          cache_provenance(identity, samples_, spec.keep),
          spec.keep,
          4 * spec.server.batch* spec.server.concurrent,
          0,
          1};
}

void TeacherOfRun::require_own_cache() {
  const auto part = cache_part_file(teacher_cache_folder(recipe_), 0);
  if (!std::filesystem::exists(part)) return;
  const auto made_from = cache_made_from();
  std::vector<std::string> names;
  for (const auto& [name, value] : made_from) names.push_back(name);
  const auto differs = differences(made_from, read_hdf5_attributes(part.string(), "a teacher cache", names));
  if (!differs.empty())
    corrupt(part.string(), "",
            "was made from something else: " + differs +
                "; delete the cache or set teacher.cache to another folder");
}

Provenance TeacherOfRun::cache_made_from() {
  if (served()) return served_job().made_from;
  return imported() ? import_job().made_from : job().made_from;
}

std::string TeacherOfRun::complete_served(int64_t shard, int64_t shards) {
  auto work = served_job();
  work.shard = shard, work.shards = shards;
  std::optional<Progress> progress;
  const auto done = teach_served(work, [&](const TeachProgress& state) {
    if (!progress) progress.emplace("teach", state.positions, "positions");
    progress->update(state.positions_done, served_ && served_->retries() > 0
                                               ? fmt::format("{} requests sent again", served_->retries())
                                               : "");
  });
  progress.reset();
  const TeacherCache cache(work.folder, work.made_from, plan_cache(samples_, work.keep.part_positions),
                           work.keep, work.vocabulary);
  return describe(cache, done);
}

ImportJob TeacherOfRun::import_job() {
  const auto& spec = *recipe_.teacher;
  const auto folder = teacher_cache_folder(recipe_);
  const auto identity = identity_of_imported(spec, folder, student_, chat_, distill_.temperature);
  return {spec.distillkit, nullptr, student_.size(),
          samples_,        folder,  cache_provenance(identity, samples_, spec.keep),
          spec.keep};
}

std::shared_ptr<const TeacherCache> TeacherOfRun::imported_cache() {
  const auto work = import_job();
  auto cache = std::make_shared<TeacherCache>(work.folder, work.made_from,
                                              plan_cache(samples_, work.keep.part_positions), work.keep,
                                              work.vocabulary);
  if (!cache->missing_parts().empty() || cache->planned_positions() == 0)
    throw not_imported(
        recipe_, fmt::format("{} of {} positions are there", cache->positions(), cache->planned_positions()));
  return cache;
}

std::string TeacherOfRun::import_texts(const std::function<std::unique_ptr<ScoredTexts>()>& open) {
  auto work = import_job();
  work.open = open;
  std::optional<Progress> progress;
  const auto done = teach_imported(work, [&](const ImportProgress& state) {
    if (!progress) progress.emplace("import", state.teach.positions, "positions");
    progress->update(state.teach.positions_done,
                     fmt::format("{} texts read, {} of use", state.texts, state.used));
  });
  progress.reset();
  auto line = describe(*imported_cache(), done.teach);
  if (done.texts > 0)
    line += fmt::format("; {} texts read, {} of use{}{}", done.texts, done.used,
                        done.remarks.empty() ? "" : "; ", done.remarks);
  return line;
}

std::string TeacherOfRun::complete(int64_t shard, int64_t shards) {
  if (served()) return complete_served(shard, shards);
  if (imported()) return describe(*imported_cache(), {});
  if (peers_ && peers_->rank() > 0) return "";
  const auto plan = plan_cache(taught(), recipe_.teacher->keep.part_positions);
  const auto missing = [&] {
    for (size_t i = 0; i < plan.parts.size(); ++i)
      if (!std::filesystem::exists(cache_part_file(teacher_cache_folder(recipe_), i))) return true;
    return false;
  };
  const bool together = peers_ && missing();
  if (together) call_();
  auto work = together ? shared_job().value() : job();
  work.shard = shard, work.shards = shards;
  const auto start = std::chrono::steady_clock::now();
  std::optional<Progress> progress;
  const auto done = teach(work, [&](const TeachProgress& state) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (state.parts == 0) return;
    if (!progress) progress.emplace("teach", state.positions, "positions");
    progress->update(
        state.positions_done,
        fmt::format("{:.0f} teacher tokens/s", static_cast<double>(state.tokens) / std::max(seconds, 1e-9)));
  });
  progress.reset();
  const TeacherCache cache(work.folder, work.made_from, plan, work.keep, work.vocabulary);
  return describe(cache, done);
}

void TeacherOfRun::share_with(Peers& peers, std::function<void()> call) {
  peers_ = &peers;
  call_ = std::move(call);
}

void TeacherOfRun::help() {
  if (const auto work = shared_job()) teach(*work);
}

// Rank 0's type of computing holds for all, who then compare everything that the cache depends on.
std::optional<TeachJob> TeacherOfRun::shared_job() {
  auto& asked = teacher();
  broadcast(*peers_, 0, std::as_writable_bytes(std::span(&asked.compute, 1)));
  const auto& model = *asked.loaded.model;
  if (divides_layers(*peers_, model)) {
    const auto layers = agree_on_layers(*peers_, model);
    auto hash = hash_by_ranks(*peers_, asked.loaded, layers);
    if (!hash) return std::nullopt;
    asked.loaded.sha256 = std::move(*hash);
    if (peers_->rank() == 0)
      tell(fmt::format(
          "{:<12} {}", "teacher",
          describe_cut(bytes_of_layers(model), layers, [&](int64_t rank) { return peers_->name(rank); })));
  }
  auto work = job();
  require_equal(*peers_, work.made_from);
  work.peers = peers_;
  return work;
}

TaughtObjective TeacherOfRun::objective(const ModelConfig& student) {
  if (recipe_.teacher->live) {
    if (other_tokens()) throw RecipeError(kLiveOfOtherTokens);
    auto& asked = teacher();
    const std::shared_ptr<const Model> model = std::move(asked.loaded.model);
    auto live = LiveTeacher{model, asked.compute, asked.vocabulary};
    teacher_.reset();
    TaughtObjective taught;
    if (!distill_.features.empty()) {
      const auto features = std::make_shared<Features>(distill_.features, student, model->config,
                                                       static_cast<uint64_t>(recipe_.train.seed));
      taught.auxiliary = features->leaves();
      live.features = features;
    }
    taught.objective = live_distillation(distill_, std::move(live));
    return taught;
  }
  complete();
  if (served()) {
    served_.reset();
    const auto work = served_job();
    return {cached_distillation(
        distill_, std::make_shared<TeacherCache>(work.folder, work.made_from,
                                                 plan_cache(samples_, work.keep.part_positions), work.keep,
                                                 work.vocabulary))};
  }
  if (imported()) return {cached_distillation(distill_, imported_cache())};
  auto cache = open_whole_cache(job());
  if (distill_.loss == "uld") {
    const auto pairs =
        std::make_shared<const std::unordered_map<Context, Context>>(paired_in_order(samples_, taught()));
    const auto find = [pairs, cache](Context context) {
      const auto found = pairs->find(context);
      return found == pairs->end() ? std::nullopt : cache->find(found->second);
    };
    TaughtObjective taught_by_order{uld_distillation(distill_, {find, student_.size(), false})};
    teacher_.reset();
    dataset_.reset();
    return taught_by_order;
  }
  if (!other_tokens()) {
    teacher_.reset();  // the student needs the memory
    return {cached_distillation(distill_, std::move(cache))};
  }
  const auto bridged = std::make_shared<const BridgedCache>(std::move(cache), *teacher().loaded.tokenizer,
                                                            dataset().train, student_, samples_);
  const auto& coverage = bridged->coverage();
  TaughtObjective taught;
  taught.notes.push_back(fmt::format(
      "The teacher has another tokenizer: its probabilities are carried to the student's tokens by bytes. It "
      "is heard at {} of {} positions; there {:.1f} % of its mass met a token of the student.",
      coverage.heard, coverage.positions, 100 * coverage.mass));
  if (coverage.heard == 0)
    throw RecipeError(
        "distill.alignment: the samples' texts differ between teacher and student, so that no position "
        "meets; check teacher.template and data.template");
  taught.objective =
      kept_distillation(distill_, {[bridged](Context context) { return bridged->find(context); },
                                   bridged->vocabulary(), bridged->sampled()});
  teacher_.reset();
  dataset_.reset();
  return taught;
}

std::string collect_answers(const Recipe& recipe, const Tokenizer& student) {
  const auto& spec = *recipe.teacher;
  const SourceFiles files(recipe.data.sources);
  const auto plan = plan_records(recipe.data, files);
  std::vector<int64_t> rows;
  for (size_t row = 0; row < plan.rows.size(); ++row)
    if (plan.rows[row].side == Side::train) rows.push_back(static_cast<int64_t>(row));
  const auto records = records_of_rows(files, rows, "data");
  std::unique_ptr<ServedTeacher> teacher;
  const auto connected = [&]() -> ServedTeacher& {
    if (!teacher) teacher = connect_teacher(spec, student);
    return *teacher;
  };
  std::optional<Progress> progress;
  const auto done = sample_answers(
      {connected, spec.server.model, records, *spec.answers, 4 * spec.server.concurrent},
      [&](const AnswersProgress& state) {
        if (!progress) progress.emplace("answers", state.answers, "answers", state.done);
        progress->update(state.done,
                         fmt::format("{} ended by themselves{}", state.finished,
                                     teacher && teacher->retries() > 0
                                         ? fmt::format(", {} requests sent again", teacher->retries())
                                         : ""));
      });
  progress.reset();
  return fmt::format("{}: {} answers to {} prompts, {} ended by themselves{}", spec.answers->file, done.done,
                     records.size(), done.finished, done.asked == 0 ? "; nothing was missing" : "");
}

}  // namespace retort
