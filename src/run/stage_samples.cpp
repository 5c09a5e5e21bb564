#include <future>

#include "base/error.h"
#include "data/beyond_context.h"
#include "data/canaries.h"
#include "data/overlap.h"
#include "data/record_list.h"
#include "data/reject.h"
#include "models/text_part.h"
#include "run/run_stages.h"

namespace retort {

namespace {

std::vector<std::string> notes_of(const DataSpec& spec, const DatasetCounts& counts, const RecordPlan& plan,
                                  const Overlap& overlap) {
  std::vector<std::string> notes;
  for (const auto& source : plan.rejections) notes.push_back(describe(source));
  for (const auto& source : plan.bad) notes.push_back(describe(source));
  for (auto& line : left_out_lines(plan)) notes.push_back(std::move(line));
  if (auto line = describe(spec.canaries); !line.empty()) notes.push_back(std::move(line));
  if (counts.bad > 0)
    notes.push_back(
        fmt::format("{} of {} records are refused by the template and were left out "
                    "(on_bad_record: skip)",
                    counts.bad, counts.records));
  if (counts.changed_answers > 0)
    notes.push_back(fmt::format(
        "{} answers are written otherwise by the template once later turns follow; {}",
        counts.changed_answers,
        spec.changed_answers == "own_sample" ? "each is learned in a sample that ends with it"
                                             : "they are not learned (data.changed_answers: leave_out)"));
  if (counts.dropped_thoughts > 0)
    notes.push_back(
        fmt::format("{} answers are learned without the thought that their record holds: the "
                    "template drops it",
                    counts.dropped_thoughts));
  if (counts.skipped_long > 0)
    notes.push_back(fmt::format("{} of {} records are too long and were left out (data.length)",
                                counts.skipped_long, counts.records));
  if (counts.cut > 0)
    notes.push_back(
        fmt::format("{} of {} records were cut to data.sample_tokens", counts.cut, counts.records));
  if (counts.duplicates > 0)
    notes.push_back(
        fmt::format("{} of {} records are equal to another; equal ones stay on one side of the split",
                    counts.duplicates, counts.records));
  if (overlap.prompts > 0)
    notes.push_back(
        fmt::format("{} of {} held-out samples have a prompt that the training data has too; "
                    "data.sources.group: prompt keeps equal prompts on one side",
                    overlap.prompts, overlap.held_out));
  if (overlap.exact > 0 || overlap.ngram > 0) {
    notes.push_back(
        fmt::format("{} of {} held-out samples occur in the training data word for word, {} more share a run "
                    "of 13 words with it; e.g. {}",
                    overlap.exact, overlap.held_out, overlap.ngram,
                    overlap.places.empty() ? "" : overlap.places.front()));
  }
  return notes;
}

// By hash, as records.tsv has them.
void record_canaries(Run& run) {
  const auto& spec = run.recipe().data.canaries;
  if (spec.count == 0) return;
  auto hashes = OrderedJson::array();
  for (const auto& canary : make_canaries(spec).planted) hashes.push_back(record_hash(canary));
  run.events().add("canaries", {{"times", spec.times}, {"records", std::move(hashes)}});
}

}  // namespace

SamplesResult prepare_samples(Run& run) {
  std::vector<std::filesystem::path> outputs = {kRecordsFile};
  if (run.own_store()) outputs.push_back(std::filesystem::path(run.data_spec().cache).filename());
  const auto stage = run.ledger().run("samples", run.sample_inputs(), outputs, [&] {
    run.make_dataset();
    const auto& dataset = run.dataset();
    const SourceFiles files(run.recipe().data.sources, run.recipe().train.threads);
    const auto plan = run.take_plan(files);
    // None of the three looks at what the others make, and each goes through all samples or records.
    auto stored = std::async(std::launch::async, [&] {
      if (run.own_store()) run.write_store();
    });
    auto compared = std::async(std::launch::async, [&] { return find_overlap(files, plan); });
    write_record_list(run.folder() / kRecordsFile, files, plan, dataset.train, run.recipe().data.canaries);
    const auto overlap = compared.get();
    stored.get();
    record_canaries(run);
    SamplesResult made;
    made.train = static_cast<int64_t>(dataset.train.size());
    made.held_out = static_cast<int64_t>(dataset.held_out.size());
    made.tokens = dataset.counts.tokens;
    made.supervised = dataset.counts.supervised;
    for (size_t s = 0; s < plan.sources.size(); ++s)
      made.sources.push_back({run.recipe().data.sources[s].path, plan.sources[s].records,
                              plan.sources[s].train, plan.sources[s].held_out, plan.sources[s].samples});
    made.groups = plan.groups, made.held_out_groups = plan.held_out_groups;
    const auto& config = run.model().model->config;
    made.architecture =
        fmt::format("{}, {} layers of width {}, vocabulary {}, context {}", config.hf_architecture,
                    config.layers, config.hidden, config.vocabulary, config.context);
    made.notes = notes_of(run.recipe().data, dataset.counts, plan, overlap);
    if (run.model().multimodal) {
      made.notes.push_back(describe_left_out(run.model().left_out));
      run.say("model", made.notes.back());
    }
    if (run.model().model->config.mtp_layers > 0) {
      made.notes.push_back(describe_mtp(run.recipe().train.mtp_weight));
      run.say("model", made.notes.back());
    }
    if (run.model().beyond > 0) {
      made.notes.push_back(describe_beyond(run.model().beyond));
      run.say("model", made.notes.back());
    }
    const auto beyond = beyond_context(dataset, run.model().model->config.context);
    made.notes.insert(made.notes.end(), beyond.begin(), beyond.end());
    for (const auto& line : beyond) run.say("samples", line);
    return made;
  });
  auto result = stage.values;
  result.line = {"samples",
                 fmt::format("{} to train on, {} held out, {} tokens, {} of them learned", result.train,
                             result.held_out, result.tokens, result.supervised),
                 stage.seconds, stage.skipped};
  run.say(result.line);
  return result;
}

}  // namespace retort
