#include "data/token_store.h"

#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/stop.h"
#include "data/hdf5_handle.h"

namespace retort {
namespace {

constexpr std::string_view kFormat = "retort tokens 1";

[[noreturn]] void failed(std::string_view what) { throw Failure(fmt::format("HDF5 cannot {}; is memory exhausted?", what)); }

template <class T> std::vector<int64_t> offsets_of(const std::vector<T>& parts) {
  std::vector<int64_t> offsets = {0};
  for (const auto& part : parts) offsets.push_back(offsets.back() + static_cast<int64_t>(part.size()));
  return offsets;
}

// Chunks of 64 Ki elements, shuffled and deflated: weights of 0 and 1 cost almost nothing.
void add_dataset(hid_t file, const char* name, hid_t stored_type, hid_t memory_type, const void* data, size_t count) {
  const hsize_t extent = count, chunk = std::min<size_t>(std::max<size_t>(count, 1), 65536);
  const Hdf5Handle space(H5Screate_simple(1, &extent, nullptr), H5Sclose);
  const Hdf5Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  bool fine = space.valid() && properties.valid() && H5Pset_obj_track_times(properties, false) >= 0;
  if (count > 0) fine = fine && H5Pset_chunk(properties, 1, &chunk) >= 0 && H5Pset_shuffle(properties) >= 0 && H5Pset_deflate(properties, 4) >= 0;
  const Hdf5Handle dataset(fine ? H5Dcreate2(file, name, stored_type, space, H5P_DEFAULT, properties, H5P_DEFAULT) : hid_t{-1}, H5Dclose);
  if (!dataset.valid() || (count > 0 && H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)) failed("write tokens");
}

void add_attribute(hid_t file, const std::string& name, const std::string& value) {
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  if (H5Tset_size(type, std::max<size_t>(1, value.size())) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0) failed("write an attribute");
  const Hdf5Handle attribute(H5Acreate2(file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  const std::string data = value.empty() ? std::string(1, '\0') : value;
  if (!attribute.valid() || H5Awrite(attribute, type, data.data()) < 0) failed("write an attribute");
}

// The source's settings that decide what a sample becomes.
std::string source_value(const SourceSpec& source) {
  Sha256 hash;
  for (const auto& file : source_files(source)) hash.add(sha256_file(file));
  Json settings = {{"format", source.format}, {"kind", source.kind},   {"prompt", source.prompt}, {"completion", source.completion}, {"system", source.system},
                   {"group", source.group},   {"weight", source.weight}, {"limit", source.limit}, {"use", source.use}};
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

  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  // The file is made in memory and written by AtomicFile, which knows how to make it appear whole.
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  if (H5Pset_fapl_core(access, size_t{4} << 20, false) < 0) failed("use memory");
  const Hdf5Handle file(H5Fcreate("tokens", H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose);
  if (!file.valid()) failed("make a file in memory");
  add_dataset(file, "tokens", H5T_STD_I32LE, H5T_NATIVE_INT32, tokens.data(), tokens.size());
  add_dataset(file, "weights", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, weights.data(), weights.size());
  add_dataset(file, "offsets", H5T_STD_I64LE, H5T_NATIVE_INT64, offsets.data(), offsets.size());
  add_dataset(file, "held_out", H5T_STD_I64LE, H5T_NATIVE_INT64, samples.held_out_indices.data(), samples.held_out_indices.size());
  add_dataset(file, "ids", H5T_STD_U8LE, H5T_NATIVE_UINT8, joined.data(), joined.size());
  add_dataset(file, "id_offsets", H5T_STD_I64LE, H5T_NATIVE_INT64, id_offsets.data(), id_offsets.size());
  add_dataset(file, "counts", H5T_STD_I64LE, H5T_NATIVE_INT64, counts.data(), counts.size());
  for (const auto& [name, value] : made_from) add_attribute(file, name, value);
  if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) failed("finish the file");
  const auto size = H5Fget_file_image(file, nullptr, 0);
  if (size <= 0) failed("measure the file");
  std::vector<std::byte> image(static_cast<size_t>(size));
  if (H5Fget_file_image(file, image.data(), image.size()) != size) failed("copy the file");
  AtomicFile out(path);
  out.write(image);
  out.commit();
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
  write_token_store(spec.cache, {dataset.train, dataset.held_out, dataset.held_out_indices, dataset.counts}, made_from);
  return dataset;
}

}  // namespace retort
