#include "data/token_store.h"

#include "data/record_list.h"

#include <filesystem>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "data/packed_samples.h"
#include "data/turns.h"

namespace retort {
namespace {

constexpr std::string_view kFormat = "retort tokens 4";

struct AsJson {
  Json& out;
  template <class Member> void operator()(const char* name, Member& member, const Rule&, const char*) {
    out[name] = member;
  }
};

// The source's settings that decide what a sample becomes.
std::string source_value(const SourceSpec& source) {
  Sha256 hash;
  for (const auto& file : source_files(source)) hash.add(sha256_file(file));
  Json settings = {{"format", source.format},
                   {"kind", source.kind},
                   {"prompt", source.prompt},
                   {"completion", source.completion},
                   {"system", source.system},
                   {"group", source.group},
                   {"weight", source.weight},
                   {"limit", source.limit},
                   {"use", source.use},
                   {"reasoning", source.reasoning},
                   {"delimiter", source.delimiter},
                   {"encoding", source.encoding},
                   {"skip_empty", source.skip_empty},
                   {"on_bad_record", source.on_bad_record}};
  if (source.quotes != "double") settings["quotes"] = source.quotes;
  for (const auto* names : {&source.roles, &source.fields_of_records})
    if (!names->entries.empty()) settings[names == &source.roles ? "roles" : "fields"] = names->entries;
  if (auto reject = source.reject) {
    AsJson visitor{settings["reject"]};
    reject->fields(visitor);
  }
  return "sha256 " + hash.hex() + ", settings " + sha256(settings.dump()).substr(0, 16);
}

}  // namespace

Provenance provenance(const DataSpec& spec, const Tokenizer& tokenizer, const ChatTemplate& chat) {
  Json settings = {{"row_tokens", spec.sample_tokens},
                   {"length", spec.length},
                   {"keep", spec.keep},
                   {"loss", spec.loss},
                   {"changed_answers", spec.changed_answers},
                   {"seed", spec.seed},
                   {"held_out_fraction", spec.held_out.fraction},
                   {"held_out_count", spec.held_out.count}};
  // What is as usual is not named: stores that were made before these keys stay good.
  const auto& learned = spec.train_on;
  if (!learned.usual()) settings["train_on"] = {learned.roles, learned.turns, learned.tool_calls};
  if (spec.near_duplicates.remove) settings["near_duplicates"] = spec.near_duplicates.similarity;
  if (spec.personal_data != "report") settings["personal_data"] = spec.personal_data;
  // By what it holds: a store with a record that is to be forgotten now is another one.
  if (!spec.forget.empty())
    if (const auto hashes = read_forget_list(spec.forget); !hashes.empty()) settings["forget"] = hashes;
  if (const auto& planted = spec.canaries; planted.count > 0)
    settings["canaries"] = {planted.count,  planted.times,  planted.text,
                            planted.prompt, planted.digits, planted.seed};
  Provenance made_from = {{"format", std::string(kFormat)},
                          {"template", std::string(chat.name)},
                          {"tokenizer", tokenizer.hash()},
                          {"settings", settings.dump()},
                          {"sources", std::to_string(spec.sources.size())}};
  for (size_t i = 0; i < spec.sources.size(); ++i)
    made_from.emplace_back(fmt::format("source_{}", i), source_value(spec.sources[i]));
  return made_from;
}

struct TokenStoreWriter::State {
  explicit State(const std::string& path)
      : file(path),
        tokens(file.add_stream("tokens", Hdf5Element::i32)),
        weights(file.add_stream("weights", Hdf5Element::u8)) {}
  Hdf5Writer file;
  size_t tokens, weights;
  std::vector<int64_t> offsets = {0}, id_offsets = {0};
  std::string ids;
};

TokenStoreWriter::TokenStoreWriter(const std::string& path) : state_(std::make_unique<State>(path)) {}
TokenStoreWriter::~TokenStoreWriter() = default;

void TokenStoreWriter::add(const Sample& sample) {
  auto& state = *state_;
  const auto weights = packed_weights(sample);
  state.file.append(state.weights, std::as_bytes(std::span(weights)));
  state.file.append(state.tokens, std::as_bytes(std::span(sample.tokens)));
  state.offsets.push_back(state.offsets.back() + static_cast<int64_t>(sample.tokens.size()));
  state.ids += sample.id;
  state.id_offsets.push_back(static_cast<int64_t>(state.ids.size()));
}

void TokenStoreWriter::finish(const std::vector<int64_t>& held_out_rows, const DatasetCounts& c,
                              const Provenance& made_from) {
  const std::vector<int64_t> counts = {
      c.records, c.skipped_long, c.cut,     c.split_pieces, c.duplicates,      c.repeats,         c.left_out,
      c.tokens,  c.supervised,   c.longest, c.bad,          c.changed_answers, c.dropped_thoughts};
  const auto raw = [](const auto& values) { return std::as_bytes(std::span(values.data(), values.size())); };
  state_->file.finish(made_from, {{"offsets", Hdf5Element::i64, raw(state_->offsets)},
                                  {"held_out", Hdf5Element::i64, raw(held_out_rows)},
                                  {"ids", Hdf5Element::u8, raw(state_->ids)},
                                  {"id_offsets", Hdf5Element::i64, raw(state_->id_offsets)},
                                  {"counts", Hdf5Element::i64, raw(counts)}});
}

void write_token_store(const std::string& path, const StoredSamples& samples, const Provenance& made_from) {
  TokenStoreWriter writer(path);
  for (const auto* side : {&samples.train, &samples.held_out})
    for (const auto& sample : *side) writer.add(sample);
  writer.finish(samples.held_out_rows, samples.counts, made_from);
}

Dataset load_dataset(const DataSpec& spec, const Tokenizer& tokenizer, const ChatTemplate& chat,
                     bool* from_cache, int64_t threads) {
  if (from_cache) *from_cache = false;
  if (spec.cache.empty()) return build_dataset(spec, tokenizer, chat, threads);
  const auto made_from = provenance(spec, tokenizer, chat);
  const SourceFiles files(spec.sources, threads);
  const bool there = std::filesystem::exists(spec.cache);
  Dataset dataset;
  if (!there) {
    TokenStoreWriter writer(spec.cache);
    dataset = make_samples(spec, files, plan_records(spec, files), tokenizer, chat, writer);
    writer.finish(dataset.held_out_rows, dataset.counts, made_from);
  }
  auto stored = read_token_store(spec.cache, made_from, tokenizer.size());
  if (there) {
    dataset.held_out_records = records_of_rows(files, stored.held_out_rows, spec.cache);
    for (size_t i = 0; i < dataset.held_out_records.size(); ++i) {
      auto& record = dataset.held_out_records[i];
      record = record_of_sample(record, stored.held_out[i].id);
    }
  }
  dataset.train = std::move(stored.train);
  dataset.held_out = std::move(stored.held_out);
  dataset.held_out_rows = std::move(stored.held_out_rows);
  dataset.counts = stored.counts;
  if (from_cache) *from_cache = there;
  return dataset;
}

}  // namespace retort
