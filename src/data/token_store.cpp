#include "data/token_store.h"

#include <filesystem>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"

namespace retort {
namespace {

constexpr std::string_view kFormat = "retort tokens 1";

template <class T> std::vector<int64_t> offsets_of(const std::vector<T>& parts) {
  std::vector<int64_t> offsets = {0};
  for (const auto& part : parts) offsets.push_back(offsets.back() + static_cast<int64_t>(part.size()));
  return offsets;
}

struct AsJson {
  Json& out;
  template <class Member> void operator()(const char* name, Member& member, const Rule&, const char*) { out[name] = member; }
};

// The source's settings that decide what a sample becomes.
std::string source_value(const SourceSpec& source) {
  Sha256 hash;
  for (const auto& file : source_files(source)) hash.add(sha256_file(file));
  Json settings = {{"format", source.format}, {"kind", source.kind},   {"prompt", source.prompt}, {"completion", source.completion}, {"system", source.system},
                   {"group", source.group},   {"weight", source.weight}, {"limit", source.limit}, {"use", source.use}};
  if (auto reject = source.reject) {
    AsJson visitor{settings["reject"]};
    reject->fields(visitor);
  }
  return "sha256 " + hash.hex() + ", settings " + sha256(settings.dump()).substr(0, 16);
}

}  // namespace

Provenance provenance(const DataSpec& spec, const Tokenizer& tokenizer, const ChatTemplate& chat) {
  const Json settings = {{"row_tokens", spec.row_tokens}, {"length", spec.length},  {"loss", spec.loss},
                         {"seed", spec.seed},             {"held_out_fraction", spec.held_out.fraction}, {"held_out_count", spec.held_out.count}};
  Provenance made_from = {{"format", std::string(kFormat)},
                          {"template", std::string(chat.name)},
                          {"tokenizer", tokenizer.hash()},
                          {"settings", settings.dump()},
                          {"sources", std::to_string(spec.sources.size())}};
  for (size_t i = 0; i < spec.sources.size(); ++i) made_from.emplace_back(fmt::format("source_{}", i), source_value(spec.sources[i]));
  return made_from;
}

void write_token_store(const std::string& path, const StoredSamples& samples, const Provenance& made_from) {
  std::vector<int32_t> tokens;
  std::vector<float> weights;
  std::vector<std::string> ids;
  std::vector<int64_t> offsets = {0};
  for (const auto* side : {&samples.train, &samples.held_out})
    for (const auto& sample : *side) {
      tokens.insert(tokens.end(), sample.tokens.begin(), sample.tokens.end());
      weights.insert(weights.end(), sample.weights.begin(), sample.weights.end());
      offsets.push_back(static_cast<int64_t>(tokens.size()));
      ids.push_back(sample.id);
    }
  std::string joined;
  for (const auto& id : ids) joined += id;
  const auto id_offsets = offsets_of(ids);
  const auto& c = samples.counts;
  const std::vector<int64_t> counts = {c.records, c.skipped_long, c.cut, c.split_pieces, c.duplicates, c.repeats, c.left_out, c.tokens, c.supervised, c.longest};

  const auto raw = [](const auto& values) { return std::as_bytes(std::span(values.data(), values.size())); };
  write_hdf5(path, made_from,
             {{"tokens", Hdf5Element::i32, raw(tokens)},
              {"weights", Hdf5Element::f32, raw(weights)},
              {"offsets", Hdf5Element::i64, raw(offsets)},
              {"held_out", Hdf5Element::i64, raw(samples.held_out_indices)},
              {"ids", Hdf5Element::u8, raw(joined)},
              {"id_offsets", Hdf5Element::i64, raw(id_offsets)},
              {"counts", Hdf5Element::i64, raw(counts)}});
}

Dataset load_dataset(const DataSpec& spec, const Tokenizer& tokenizer, const ChatTemplate& chat, bool* from_cache) {
  if (from_cache) *from_cache = false;
  if (spec.cache.empty()) return build_dataset(spec, tokenizer, chat);
  const auto made_from = provenance(spec, tokenizer, chat);
  auto records = read_records(spec);
  if (std::filesystem::exists(spec.cache)) {
    auto stored = read_token_store(spec.cache, made_from, tokenizer.size());
    Dataset dataset{std::move(stored.train), std::move(stored.held_out), {}, std::move(stored.held_out_indices), stored.counts};
    for (const auto index : dataset.held_out_indices) {
      if (index < 0 || static_cast<size_t>(index) >= records.size()) corrupt(spec.cache, "held_out", "names a record that the sources do not have");
      dataset.held_out_records.push_back(records[static_cast<size_t>(index)]);
    }
    if (from_cache) *from_cache = true;
    return dataset;
  }
  auto dataset = build_dataset(spec, records, tokenizer, chat);
  write_token_store(spec.cache, {dataset.train.list(), dataset.held_out.list(), dataset.held_out_indices, dataset.counts}, made_from);
  return dataset;
}

}  // namespace retort
