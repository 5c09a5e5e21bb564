#include "teacher/teach.h"

#include "base/error.h"
#include "base/stop.h"
#include "ops/workers.h"

namespace retort {
namespace {

constexpr size_t kRowsAtATime = 64;  // logits of 64 positions exist at a time in each thread

std::string compute_name(const TeacherSpec& spec, at::ScalarType compute) {
  return fmt::format("{}, weights {}", compute == at::kBFloat16 ? "bf16" : "f32", spec.weights);
}

// The arithmetic that a build in `cache` began with; empty when none did.
std::string begun_with(const std::filesystem::path& cache) {
  const auto file = cache_part_file(cache, 0);
  return std::filesystem::exists(file)
             ? read_hdf5(file.string(), "a teacher cache", {"compute"}, {{"rows", Hdf5Element::u8}})
                   .attributes[0]
             : "";
}

}  // namespace

Teacher load_teacher(const TeacherSpec& spec, const std::filesystem::path& cache) {
  const ModelSpec model{.path = spec.path, .weights = spec.weights, .compute = spec.compute};
  Teacher teacher{load_model(model), at::kFloat, 0};
  teacher.loaded.sha256.begin();
  teacher.vocabulary = teacher.loaded.tokenizer->usable_ids();
  const auto begun = begun_with(cache);
  teacher.compute = spec.compute == "auto" && !begun.empty()
                        ? (begun.starts_with("bf16") ? at::kBFloat16 : at::kFloat)
                        : compute_type(model);
  return teacher;
}

TeacherIdentity identity_of(const TeacherSpec& spec, const Teacher& teacher, const ChatTemplate& chat,
                            double temperature) {
  return {teacher.loaded.sha256.get(), teacher.loaded.tokenizer->hash(), std::string(chat.name),
          compute_name(spec, teacher.compute), temperature};
}

std::shared_ptr<const TeacherCache> open_whole_cache(const TeachJob& job) {
  auto cache = std::make_shared<TeacherCache>(
      job.folder, job.made_from, plan_cache(job.samples, job.keep.part_positions), job.keep, job.vocabulary);
  if (const auto missing = cache->missing_parts(); !missing.empty())
    throw FormatError(fmt::format(
        "{}: {} of {} positions are there; run `retort teach` with the same recipe to complete it",
        printable(job.folder.string()), cache->positions(), cache->planned_positions()));
  return cache;
}

std::vector<BitWriter> teach_part(const TeachJob& job, const CachePlan& plan, size_t number,
                                  int64_t* tokens) {
  const auto& part = plan.parts.at(number);
  const auto samples = job.samples.list(part.first_sample, part.end_sample);
  const auto forests = build_forests(samples, job.row_tokens);
  // A context that stands in two forests belongs to the first: what is written never depends on which thread
  // was faster.
  std::vector<BitWriter> rows(static_cast<size_t>(part.positions));
  std::vector<bool> claimed(rows.size());
  std::vector<std::vector<int32_t>> wanted(forests.size());
  std::vector<std::vector<int64_t>> place(forests.size());
  for (size_t f = 0; f < forests.size(); ++f) {
    const auto here = contexts(forests[f]);
    for (const auto& target : forests[f].targets) {
      const auto position = plan.position.at(here[static_cast<size_t>(target.row)]) - part.first_position;
      if (position < 0 || claimed[static_cast<size_t>(position)]) continue;  // an earlier part has it
      claimed[static_cast<size_t>(position)] = true;
      wanted[f].push_back(target.row);
      place[f].push_back(position);
    }
    if (tokens && !wanted[f].empty()) *tokens += forests[f].size();
  }
  const Draws draws(static_cast<uint64_t>(job.keep.seed), "teacher cache");
  run_workers(usable_threads(job.threads), static_cast<int64_t>(forests.size()), [&](int64_t f) {
    if (stop_requested() || wanted[f].empty()) return;
    const auto pass = make_pass(forests[f], job.compute);
    const auto hidden = job.teacher.hidden(pass);
    for (size_t first = 0; first < wanted[f].size(); first += kRowsAtATime) {
      const auto chunk =
          std::span(wanted[f]).subspan(first, std::min(kRowsAtATime, wanted[f].size() - first));
      const auto z = logits(hidden, chunk, job.teacher.head, pass).narrow(1, 0, job.vocabulary);
      const auto log_p = (job.temperature == 1 ? z : z / job.temperature).log_softmax(-1);
      const auto p = log_p.exp();
      const auto entropy =
          at::where(p.gt(0), p * log_p, at::zeros_like(p)).sum(-1, false, at::kDouble).neg_();
      for (size_t i = 0; i < chunk.size(); ++i) {
        const auto position = place[f][first + i];
        const std::span row(p.const_data_ptr<float>() + static_cast<int64_t>(i) * job.vocabulary,
                            static_cast<size_t>(job.vocabulary));
        const double nats = entropy.const_data_ptr<double>()[i];
        if (!std::isfinite(nats))
          throw Failure(
              fmt::format("the teacher's probabilities of sample {} are not finite; its weights are damaged "
                          "or overflow in this arithmetic (teacher.compute: f32)",
                          printable(samples[static_cast<size_t>(forests[f].targets.front().sample)].id)));
        encode_row(row, nats, job.keep, draws, static_cast<uint64_t>(part.first_position + position),
                   rows[static_cast<size_t>(position)]);
      }
    }
  });
  leave_if_stopped("asking the teacher; the finished parts are kept and the same command continues");
  return rows;
}

std::vector<size_t> parts_to_make(const TeacherCache& cache, const CachePlan& plan, int64_t shard,
                                  int64_t shards, TeachProgress& state) {
  if (plan.parts.empty())
    throw RecipeError("teacher: no token of the samples is supervised; check data.loss");
  std::vector<size_t> mine;
  for (const auto part : cache.missing_parts()) {
    if (static_cast<int64_t>(part) % shards != shard) continue;
    mine.push_back(part);
    state.positions += plan.parts[part].positions;
  }
  state.parts = mine.size();
  return mine;
}

TeachProgress teach(const TeachJob& job, const std::function<void(const TeachProgress&)>& progress) {
  const auto plan = plan_cache(job.samples, job.keep.part_positions);
  const TeacherCache there(job.folder, job.made_from, plan, job.keep, job.vocabulary);
  TeachProgress state;
  const auto mine = parts_to_make(there, plan, job.shard, job.shards, state);
  if (progress) progress(state);
  for (const auto part : mine) {
    const auto rows = teach_part(job, plan, part, &state.tokens);
    write_cache_part(job.folder, part, job.made_from, rows);
    ++state.parts_done;
    state.positions_done += plan.parts[part].positions;
    if (progress) progress(state);
  }
  return state;
}

}  // namespace retort
