// The reading side of the token store. HDF5 itself runs in a confined child; what it hands over is checked again.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/files.h"
#include "data/hdf5_handle.h"
#include "data/isolated_read.h"
#include "data/token_store.h"

namespace retort {
namespace {

struct Expected {
  const char* name;
  size_t bytes;            // of one element
  hid_t (*stored_type)();  // H5T_* are function calls behind macros
};
const Expected kDatasets[] = {
    {"tokens", 4, [] { return H5T_STD_I32LE; }},   {"weights", 4, [] { return H5T_IEEE_F32LE; }}, {"offsets", 8, [] { return H5T_STD_I64LE; }},
    {"held_out", 8, [] { return H5T_STD_I64LE; }}, {"ids", 1, [] { return H5T_STD_U8LE; }},       {"id_offsets", 8, [] { return H5T_STD_I64LE; }},
    {"counts", 8, [] { return H5T_STD_I64LE; }},
};
constexpr size_t kLongestAttribute = 60000;
constexpr uint64_t kDeflateRatio = 1032;  // deflate makes no more of a byte than that

// All objects of the file are opened here, in the child.
class StoreReader {
 public:
  StoreReader(std::string_view path, std::span<const std::byte> image) : path_(path), image_bytes_(image.size()) {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    H5PLset_loading_state(0);
    const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    if (H5Pset_fapl_core(access, size_t{1} << 20, false) < 0 || H5Pset_file_image(access, const_cast<std::byte*>(image.data()), image.size()) < 0)
      corrupt(path, "", "cannot be held in memory");
    file_ = H5Fopen("tokens", H5F_ACC_RDONLY, access);
    if (file_ < 0) corrupt(path, "", "is no HDF5 file or is damaged; delete it and it is made again");
  }

  // "name\0value\0" for each, then for each data set its length in bytes and its bytes.
  void send_all(const Provenance& made_from, const SendBytes& send) {
    H5G_info_t root{};
    if (H5Gget_info(file_, &root) < 0 || root.nlinks != std::size(kDatasets)) corrupt(path_, "/", "holds other objects than a token store");
    for (const auto& [name, value] : made_from) {
      const auto found = attribute(name);
      const uint64_t size = found.size();
      send(std::as_bytes(std::span(&size, 1)));
      send(std::as_bytes(std::span(found.data(), found.size())));
    }
    uint64_t total = 0;
    for (const auto& expected : kDatasets) send_dataset(expected, total, send);
  }

 private:
  std::string attribute(const std::string& name) {
    if (H5Aexists(file_, name.c_str()) <= 0) return "";
    const Hdf5Handle found(H5Aopen(file_, name.c_str(), H5P_DEFAULT), H5Aclose);
    const Hdf5Handle type(found.valid() ? H5Aget_type(found) : hid_t{-1}, H5Tclose);
    const Hdf5Handle space(found.valid() ? H5Aget_space(found) : hid_t{-1}, H5Sclose);
    if (!type.valid() || !space.valid() || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 || H5Sget_simple_extent_type(space) != H5S_SCALAR)
      corrupt(path_, name, "is not an attribute of fixed length");
    const auto size = H5Tget_size(type);
    if (size == 0 || size > kLongestAttribute) corrupt(path_, name, "attribute of " + bytes(size));
    std::string value(size, '\0');
    if (H5Aread(found, type, value.data()) < 0) corrupt(path_, name, "attribute cannot be read");
    while (value.ends_with('\0')) value.pop_back();
    return value;
  }

  void send_dataset(const Expected& expected, uint64_t& total, const SendBytes& send) {
    H5L_info_t link{};
    if (H5Lget_info(file_, expected.name, &link, H5P_DEFAULT) < 0) corrupt(path_, expected.name, "this data set is missing");
    if (link.type != H5L_TYPE_HARD) corrupt(path_, expected.name, "is a link; a token store holds plain data sets only");
    H5O_info_t object{};
    if (H5Oget_info_by_name(file_, expected.name, &object, H5P_DEFAULT) < 0 || object.type != H5O_TYPE_DATASET)
      corrupt(path_, expected.name, "is no data set");
    const Hdf5Handle dataset(H5Dopen2(file_, expected.name, H5P_DEFAULT), H5Dclose);
    const Hdf5Handle type(dataset.valid() ? H5Dget_type(dataset) : hid_t{-1}, H5Tclose);
    const Hdf5Handle space(dataset.valid() ? H5Dget_space(dataset) : hid_t{-1}, H5Sclose);
    const Hdf5Handle properties(dataset.valid() ? H5Dget_create_plist(dataset) : hid_t{-1}, H5Pclose);
    if (!type.valid() || !space.valid() || !properties.valid()) corrupt(path_, expected.name, "cannot be opened");
    if (H5Tequal(type, expected.stored_type()) <= 0) corrupt(path_, expected.name, "has another element type than a token store");
    if (H5Sget_simple_extent_ndims(space) != 1) corrupt(path_, expected.name, "is not one-dimensional");
    const auto layout = H5Pget_layout(properties);
    if (layout != H5D_CHUNKED && layout != H5D_CONTIGUOUS) corrupt(path_, expected.name, "has a storage layout that is not read");
    if (H5Pget_external_count(properties) != 0) corrupt(path_, expected.name, "keeps its data in another file; that is not read");
    for (int i = 0; i < H5Pget_nfilters(properties); ++i) {
      unsigned flags = 0, configuration = 0;
      size_t values = 0;
      const auto filter = H5Pget_filter2(properties, static_cast<unsigned>(i), &flags, &values, nullptr, 0, nullptr, &configuration);
      if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE) corrupt(path_, expected.name, "uses a filter other than deflate and shuffle");
    }
    hsize_t chunk = 1;
    if (layout == H5D_CHUNKED && (H5Pget_chunk(properties, 1, &chunk) != 1 || chunk > 65536)) corrupt(path_, expected.name, "has chunks over 65536 elements");
    hsize_t extent = 0;
    H5Sget_simple_extent_dims(space, &extent, nullptr);
    uint64_t size = 0;
    if (!multiply(extent, expected.bytes, size) || !add(total, size, total) || total > image_bytes_ * kDeflateRatio)
      corrupt(path_, expected.name, "claims more elements than the file can hold");
    send(std::as_bytes(std::span(&size, 1)));
    // In blocks, so that memory stays bounded whatever the file claims.
    constexpr hsize_t kBlock = 1 << 18;
    std::vector<std::byte> block;
    for (hsize_t begin = 0; begin < extent; begin += kBlock) {
      const hsize_t count = std::min(kBlock, extent - begin);
      block.resize(count * expected.bytes);
      const Hdf5Handle memory(H5Screate_simple(1, &count, nullptr), H5Sclose);
      if (H5Sselect_hyperslab(space, H5S_SELECT_SET, &begin, nullptr, &count, nullptr) < 0 ||
          H5Dread(dataset, expected.stored_type(), memory, space, H5P_DEFAULT, block.data()) < 0)
        corrupt(path_, expected.name, "cannot be read; the file is damaged");
      send(block);
    }
  }

  std::string path_;
  uint64_t image_bytes_;
  hid_t file_ = -1;  // the child's end closes it
};

// The parent's view of the answer: pieces with their length in front.
class Answer {
 public:
  Answer(std::string_view path, std::span<const std::byte> bytes) : path_(path), left_(bytes) {}
  template <class T> std::vector<T> next(std::string_view name) {
    uint64_t size = 0;
    if (left_.size() < 8) corrupt(path_, name, "is cut off");
    std::memcpy(&size, left_.data(), 8);
    left_ = left_.subspan(8);
    if (size > left_.size() || size % sizeof(T) != 0) corrupt(path_, name, "is cut off");
    std::vector<T> values(size / sizeof(T));
    if (size > 0) std::memcpy(values.data(), left_.data(), size);
    left_ = left_.subspan(size);
    return values;
  }
  bool finished() const { return left_.empty(); }

 private:
  std::string path_;
  std::span<const std::byte> left_;
};

// 0 <= first <= ... <= last == `end`.
void require_offsets(const std::string& path, std::string_view name, const std::vector<int64_t>& offsets, size_t end) {
  if (offsets.empty() || offsets.front() != 0 || offsets.back() < 0 || static_cast<uint64_t>(offsets.back()) != end || !std::is_sorted(offsets.begin(), offsets.end()))
    corrupt(path, name, "does not divide the data");
}

}  // namespace

StoredSamples read_token_store(const std::string& path, const Provenance& made_from, int64_t vocabulary) {
  const MappedFile file(path);
  const auto image = file.bytes();
  uint64_t most = 0;
  if (!multiply(image.size(), kDeflateRatio, most)) corrupt(path, "", "is too large");
  const auto raw = read_isolated(path, image.size() * 3 + (uint64_t{256} << 20), most + (uint64_t{1} << 20), 600,
                                 [&](const SendBytes& send) { StoreReader(path, image).send_all(made_from, send); });
  file.require_unchanged();

  Answer answer(path, raw);
  std::string differs;
  for (const auto& [name, value] : made_from) {
    const auto found = answer.next<char>(name);
    const std::string text(found.begin(), found.end());
    if (text == value) continue;
    differs += fmt::format("{}{} (stored: {}, now: {})", differs.empty() ? "" : "; ", name, text.empty() ? "nothing" : printable(text), printable(value));
  }
  if (!differs.empty()) corrupt(path, "", "was made from something else: " + differs + "; delete the file or set data.cache to another one");

  const auto tokens = answer.next<int32_t>("tokens");
  const auto weights = answer.next<float>("weights");
  const auto offsets = answer.next<int64_t>("offsets");
  StoredSamples samples;
  samples.held_out_indices = answer.next<int64_t>("held_out");
  const auto ids = answer.next<char>("ids");
  const auto id_offsets = answer.next<int64_t>("id_offsets");
  const auto counts = answer.next<int64_t>("counts");
  if (!answer.finished()) corrupt(path, "", "holds more than a token store");

  if (weights.size() != tokens.size()) corrupt(path, "weights", fmt::format("{} values for {} tokens", weights.size(), tokens.size()));
  require_offsets(path, "offsets", offsets, tokens.size());
  require_offsets(path, "id_offsets", id_offsets, ids.size());
  if (offsets.size() != id_offsets.size()) corrupt(path, "id_offsets", "has another number of samples than offsets");
  const size_t count = offsets.size() - 1;
  if (samples.held_out_indices.size() > count) corrupt(path, "held_out", "more samples held out than there are");
  if (counts.size() != 10) corrupt(path, "counts", fmt::format("{} values; expected 10", counts.size()));
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocabulary) corrupt(path, "tokens", fmt::format("token {} is {}; the vocabulary has {}", i, tokens[i], vocabulary));
    if (!(weights[i] >= 0) || !std::isfinite(weights[i])) corrupt(path, "weights", fmt::format("value {} is not a weight", i));
  }
  for (size_t s = 0; s < count; ++s) {
    Sample sample;
    sample.tokens.assign(tokens.begin() + offsets[s], tokens.begin() + offsets[s + 1]);
    sample.weights.assign(weights.begin() + offsets[s], weights.begin() + offsets[s + 1]);
    sample.id.assign(ids.begin() + id_offsets[s], ids.begin() + id_offsets[s + 1]);
    (s < count - samples.held_out_indices.size() ? samples.train : samples.held_out).push_back(std::move(sample));
  }
  samples.counts = {.records = counts[0],    .skipped_long = counts[1], .cut = counts[2],    .split_pieces = counts[3], .duplicates = counts[4],
                    .repeats = counts[5],    .left_out = counts[6],     .tokens = counts[7], .supervised = counts[8],   .longest = counts[9]};
  return samples;
}

}  // namespace retort
