#include "data/hdf5_file.h"

#include <algorithm>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "base/files.h"
#include "base/unfinished_file.h"
#include "data/hdf5_handle.h"
#include "data/isolated_read.h"

namespace retort {
namespace {

constexpr size_t kLongestAttribute = 60000;
constexpr size_t kStreamChunk = size_t{1}
                                << 20;  // elements; a shorter stream has one chunk of its own length
constexpr uint64_t kReaderBytes = uint64_t{256} << 20;
constexpr uint64_t kDeflateRatio = 1032;  // deflate makes no more of a byte than that

[[noreturn]] void failed(std::string_view what) {
  throw Failure(fmt::format("HDF5 cannot {}; is memory exhausted?", what));
}

size_t bytes_of(Hdf5Element element) {
  return element == Hdf5Element::i64 ? 8 : element == Hdf5Element::u8 ? 1 : 4;
}
hid_t stored_type(Hdf5Element element) {  // H5T_* are function calls behind macros
  switch (element) {
    case Hdf5Element::i32: return H5T_STD_I32LE;
    case Hdf5Element::i64: return H5T_STD_I64LE;
    case Hdf5Element::f32: return H5T_IEEE_F32LE;
    default: return H5T_STD_U8LE;
  }
}

// Chunks of 64 Ki elements, shuffled and deflated: weights of 0 and 1 cost almost nothing.
void add_dataset(hid_t file, const Hdf5Dataset& wanted) {
  const size_t count = wanted.data.size() / bytes_of(wanted.element);
  const hsize_t extent = count, chunk = std::min<size_t>(std::max<size_t>(count, 1), 65536);
  const Hdf5Handle space(H5Screate_simple(1, &extent, nullptr), H5Sclose);
  const Hdf5Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  bool fine = space.valid() && properties.valid() && H5Pset_obj_track_times(properties, false) >= 0;
  if (count > 0 && wanted.deflate)
    fine = fine && H5Pset_chunk(properties, 1, &chunk) >= 0 && H5Pset_shuffle(properties) >= 0 &&
           H5Pset_deflate(properties, 4) >= 0;
  const auto type = stored_type(wanted.element);
  const Hdf5Handle dataset(
      fine ? H5Dcreate2(file, wanted.name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT) : hid_t{-1},
      H5Dclose);
  if (!dataset.valid() ||
      (count > 0 && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, wanted.data.data()) < 0))
    failed("write data");
}

void add_attribute(hid_t file, const std::string& name, const std::string& value) {
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  if (H5Tset_size(type, std::max<size_t>(1, value.size())) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0)
    failed("write an attribute");
  const Hdf5Handle attribute(H5Acreate2(file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  const std::string data = value.empty() ? std::string(1, '\0') : value;
  if (!attribute.valid() || H5Awrite(attribute, type, data.data()) < 0) failed("write an attribute");
}

// The library would copy the whole image otherwise; it is opened for reading only.
void* lend_image(size_t, H5FD_file_image_op_t, void* image) { return image; }
void* keep_image(void* to, const void*, size_t, H5FD_file_image_op_t, void*) { return to; }
void* no_growth(void*, size_t, H5FD_file_image_op_t, void*) { return nullptr; }
herr_t keep_alive(void*, H5FD_file_image_op_t, void*) { return 0; }
void* same_image(void* image) { return image; }
herr_t keep_data(void*) { return 0; }

// All objects of the file are opened here, in the child.
class Reader {
 public:
  Reader(std::string_view path, std::string_view kind, std::span<const std::byte> image)
      : path_(path), kind_(kind), image_bytes_(image.size()) {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    H5PLset_loading_state(0);
    const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    auto* bytes = const_cast<std::byte*>(image.data());
    H5FD_file_image_callbacks_t lent{lend_image, keep_image, no_growth, keep_alive,
                                     same_image, keep_data,  bytes};
    if (H5Pset_fapl_core(access, size_t{1} << 20, false) < 0 ||
        H5Pset_file_image_callbacks(access, &lent) < 0 || H5Pset_file_image(access, bytes, image.size()) < 0)
      corrupt(path, "", "cannot be held in memory");
    file_ = H5Fopen("file", H5F_ACC_RDONLY, access);
    if (file_ < 0) corrupt(path, "", "is no HDF5 file or is damaged; delete it and it is made again");
  }

  // Each attribute, or each data set: its length in bytes and its bytes. Of those read in place: the pieces.
  void send_attributes(const std::vector<std::string>& attributes, const SendBytes& send) {
    for (const auto& name : attributes) {
      const auto found = attribute(name);
      const uint64_t size = found.size();
      send(std::as_bytes(std::span(&size, 1)));
      send(std::as_bytes(std::span(found.data(), found.size())));
    }
  }
  void send_datasets(const std::vector<Hdf5Dataset>& datasets, const SendBytes& send) {
    H5G_info_t root{};
    if (H5Gget_info(file_, &root) < 0 || root.nlinks != datasets.size())
      corrupt(path_, "/", "holds other objects than " + kind_);
    uint64_t total = 0;
    for (const auto& expected : datasets) send_dataset(expected, total, send);
  }

 private:
  std::string attribute(const std::string& name) {
    if (H5Aexists(file_, name.c_str()) <= 0) return "";
    const Hdf5Handle found(H5Aopen(file_, name.c_str(), H5P_DEFAULT), H5Aclose);
    const Hdf5Handle type(found.valid() ? H5Aget_type(found) : hid_t{-1}, H5Tclose);
    const Hdf5Handle space(found.valid() ? H5Aget_space(found) : hid_t{-1}, H5Sclose);
    if (!type.valid() || !space.valid() || H5Tget_class(type) != H5T_STRING ||
        H5Tis_variable_str(type) != 0 || H5Sget_simple_extent_type(space) != H5S_SCALAR)
      corrupt(path_, name, "is not an attribute of fixed length");
    const auto size = H5Tget_size(type);
    if (size == 0 || size > kLongestAttribute) corrupt(path_, name, "attribute of " + bytes(size));
    std::string value(size, '\0');
    if (H5Aread(found, type, value.data()) < 0) corrupt(path_, name, "attribute cannot be read");
    while (value.ends_with('\0')) value.pop_back();
    return value;
  }

  void send_dataset(const Hdf5Dataset& expected, uint64_t& total, const SendBytes& send) {
    H5L_info_t link{};
    if (H5Lget_info(file_, expected.name, &link, H5P_DEFAULT) < 0)
      corrupt(path_, expected.name, "this data set is missing");
    if (link.type != H5L_TYPE_HARD)
      corrupt(path_, expected.name, "is a link; " + kind_ + " holds plain data sets only");
    H5O_info_t object{};
    if (H5Oget_info_by_name(file_, expected.name, &object, H5P_DEFAULT) < 0 ||
        object.type != H5O_TYPE_DATASET)
      corrupt(path_, expected.name, "is no data set");
    const Hdf5Handle dataset(H5Dopen2(file_, expected.name, H5P_DEFAULT), H5Dclose);
    const Hdf5Handle type(dataset.valid() ? H5Dget_type(dataset) : hid_t{-1}, H5Tclose);
    const Hdf5Handle space(dataset.valid() ? H5Dget_space(dataset) : hid_t{-1}, H5Sclose);
    const Hdf5Handle properties(dataset.valid() ? H5Dget_create_plist(dataset) : hid_t{-1}, H5Pclose);
    if (!type.valid() || !space.valid() || !properties.valid())
      corrupt(path_, expected.name, "cannot be opened");
    if (H5Tequal(type, stored_type(expected.element)) <= 0)
      corrupt(path_, expected.name, "has another element type than " + kind_);
    if (H5Sget_simple_extent_ndims(space) != 1) corrupt(path_, expected.name, "is not one-dimensional");
    const auto layout = H5Pget_layout(properties);
    if (layout != H5D_CHUNKED && layout != H5D_CONTIGUOUS)
      corrupt(path_, expected.name, "has a storage layout that is not read");
    if (H5Pget_external_count(properties) != 0)
      corrupt(path_, expected.name, "keeps its data in another file; that is not read");
    const auto filters = H5Pget_nfilters(properties);
    for (int i = 0; i < filters; ++i) {
      unsigned flags = 0, configuration = 0;
      size_t values = 0;
      const auto filter = H5Pget_filter2(properties, static_cast<unsigned>(i), &flags, &values, nullptr, 0,
                                         nullptr, &configuration);
      if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE)
        corrupt(path_, expected.name, "uses a filter other than deflate and shuffle");
    }
    hsize_t chunk = 1;
    if (layout == H5D_CHUNKED &&
        (H5Pget_chunk(properties, 1, &chunk) != 1 || chunk == 0 || (chunk > 65536 && !expected.in_place)))
      corrupt(path_, expected.name, "has chunks over 65536 elements");
    hsize_t extent = 0;
    H5Sget_simple_extent_dims(space, &extent, nullptr);
    uint64_t size = 0;
    if (!multiply(extent, bytes_of(expected.element), size) || !add(total, size, total) ||
        total > image_bytes_ * kDeflateRatio)
      corrupt(path_, expected.name, "claims more elements than the file can hold");
    if (expected.in_place) {
      if (filters != 0) corrupt(path_, expected.name, "is compressed; " + kind_ + " holds it as it is");
      return send_pieces(expected, dataset, extent, layout == H5D_CHUNKED ? chunk : extent,
                         layout == H5D_CHUNKED, size, send);
    }
    send(std::as_bytes(std::span(&size, 1)));
    // In blocks, so that memory stays bounded whatever the file claims.
    constexpr hsize_t kBlock = 1 << 18;
    std::vector<std::byte> block;
    for (hsize_t begin = 0; begin < extent; begin += kBlock) {
      const hsize_t count = std::min(kBlock, extent - begin);
      block.resize(count * bytes_of(expected.element));
      const Hdf5Handle memory(H5Screate_simple(1, &count, nullptr), H5Sclose);
      if (H5Sselect_hyperslab(space, H5S_SELECT_SET, &begin, nullptr, &count, nullptr) < 0 ||
          H5Dread(dataset, stored_type(expected.element), memory, space, H5P_DEFAULT, block.data()) < 0)
        corrupt(path_, expected.name, "cannot be read; the file is damaged");
      send(block);
    }
  }

  void send_pieces(const Hdf5Dataset& expected, hid_t dataset, hsize_t extent, hsize_t chunk, bool chunked,
                   uint64_t size, const SendBytes& send) {
    if (size > image_bytes_) corrupt(path_, expected.name, "claims more elements than the file can hold");
    std::vector<Hdf5Piece> pieces;
    for (hsize_t begin = 0; begin < extent; begin += std::min(chunk, extent - begin)) {
      const auto wanted = std::min(chunk, extent - begin) * bytes_of(expected.element);
      unsigned mask = 0;
      haddr_t address = HADDR_UNDEF;
      hsize_t stored = 0;
      if (!chunked) address = H5Dget_offset(dataset), stored = wanted;
      else if (H5Dget_chunk_info_by_coord(dataset, &begin, &mask, &address, &stored) < 0)
        address = HADDR_UNDEF;
      if (address == HADDR_UNDEF || stored < wanted || address > image_bytes_ ||
          wanted > image_bytes_ - address)
        corrupt(path_, expected.name, "does not lie in the file; it is damaged");
      pieces.push_back({address, wanted});
    }
    const uint64_t sent = pieces.size() * sizeof(Hdf5Piece);
    send(std::as_bytes(std::span(&sent, 1)));
    send(std::as_bytes(std::span(pieces)));
  }

  std::string path_, kind_;
  uint64_t image_bytes_;
  hid_t file_ = -1;  // the child's end closes it
};

// The next piece of the answer, which has its length in front.
std::span<const std::byte> next_piece(std::string_view path, std::string_view name,
                                      std::span<const std::byte>& left) {
  uint64_t size = 0;
  if (left.size() < 8) corrupt(path, name, "is cut off");
  std::memcpy(&size, left.data(), 8);
  left = left.subspan(8);
  if (size > left.size()) corrupt(path, name, "is cut off");
  const auto piece = left.first(size);
  left = left.subspan(size);
  return piece;
}

}  // namespace

void write_hdf5(const std::string& path, const Provenance& attributes,
                const std::vector<Hdf5Dataset>& datasets) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  // The file is made in memory and written by AtomicFile, which knows how to make it appear whole.
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  if (H5Pset_fapl_core(access, size_t{4} << 20, false) < 0) failed("use memory");
  const Hdf5Handle file(H5Fcreate("file", H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose);
  if (!file.valid()) failed("make a file in memory");
  for (const auto& dataset : datasets) add_dataset(file, dataset);
  for (const auto& [name, value] : attributes) add_attribute(file, name, value);
  if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) failed("finish the file");
  const auto size = H5Fget_file_image(file, nullptr, 0);
  if (size <= 0) failed("measure the file");
  std::vector<std::byte> image(static_cast<size_t>(size));
  if (H5Fget_file_image(file, image.data(), image.size()) != size) failed("copy the file");
  AtomicFile out(path);
  out.write(image);
  out.commit();
}

struct Hdf5Writer::Stream {
  const char* name;
  Hdf5Element element;
  std::vector<std::byte> waiting = {};  // less than a chunk
  std::optional<Hdf5Handle> dataset = {};
  hsize_t written = 0;  // elements
};

struct Hdf5Writer::State {
  explicit State(const std::string& path) : file(path) {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    if (H5Pset_file_locking(access, false, true) < 0)
      failed("prepare a file");  // `file` holds a lock already
    handle.emplace(H5Fcreate(file.path().c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose);
    if (!handle->valid()) throw Failure(path + ": HDF5 cannot write here");
  }

  [[noreturn]] void full() const {
    throw Failure(file.path().string() + ": HDF5 cannot write data; is the disk full?");
  }

  void make(Stream& stream, hsize_t chunk) {
    const hsize_t none = 0, most = H5S_UNLIMITED;
    const Hdf5Handle space(H5Screate_simple(1, &none, &most), H5Sclose);
    const Hdf5Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    const bool fine = space.valid() && properties.valid() && H5Pset_obj_track_times(properties, false) >= 0 &&
                      H5Pset_chunk(properties, 1, &chunk) >= 0;
    stream.dataset.emplace(fine ? H5Dcreate2(*handle, stream.name, stored_type(stream.element), space,
                                             H5P_DEFAULT, properties, H5P_DEFAULT)
                                : hid_t{-1},
                           H5Dclose);
    if (!stream.dataset->valid()) failed("make a data set");
  }

  // What is written is a whole chunk, the last one of a stream with zeros behind its end.
  void write_chunk(Stream& stream, size_t elements, std::span<const std::byte> chunk) {
    const hsize_t begin = stream.written, end = begin + elements;
    if (H5Dset_extent(*stream.dataset, &end) < 0 ||
        H5Dwrite_chunk(*stream.dataset, H5P_DEFAULT, 0, &begin, chunk.size(), chunk.data()) < 0)
      full();
    stream.written = end;
  }

  void close(Stream& stream) {
    const auto elements = stream.waiting.size() / bytes_of(stream.element);
    const bool only = !stream.dataset;
    if (only) make(stream, std::max<hsize_t>(1, elements));
    if (elements > 0) {
      if (!only) stream.waiting.resize(kStreamChunk * bytes_of(stream.element));
      write_chunk(stream, elements, stream.waiting);
    }
    stream.dataset.reset();
    stream.waiting = {};
  }

  UnfinishedFile file;
  std::optional<Hdf5Handle> handle;
  std::vector<Stream> streams;
};

Hdf5Writer::Hdf5Writer(const std::string& path) : state_(std::make_unique<State>(path)) {}
Hdf5Writer::~Hdf5Writer() = default;

size_t Hdf5Writer::add_stream(const char* name, Hdf5Element element) {
  state_->streams.push_back({name, element});
  return state_->streams.size() - 1;
}

void Hdf5Writer::append(size_t number, std::span<const std::byte> data) {
  auto& stream = state_->streams.at(number);
  const auto chunk = kStreamChunk * bytes_of(stream.element);
  while (!data.empty()) {
    if (stream.waiting.size() == chunk) {  // there is more: it will not be the only one
      if (!stream.dataset) state_->make(stream, kStreamChunk);
      state_->write_chunk(stream, kStreamChunk, stream.waiting);
      stream.waiting.clear();
    }
    const auto some = data.first(std::min(data.size(), chunk - stream.waiting.size()));
    stream.waiting.insert(stream.waiting.end(), some.begin(), some.end());
    data = data.subspan(some.size());
  }
}

void Hdf5Writer::finish(const Provenance& attributes, const std::vector<Hdf5Dataset>& datasets) {
  for (auto& stream : state_->streams) state_->close(stream);
  auto& file = *state_->handle;
  for (const auto& dataset : datasets) add_dataset(file, dataset);
  for (const auto& [name, value] : attributes) add_attribute(file, name, value);
  if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) state_->full();
  state_->handle.reset();
  state_->file.commit();
}

std::vector<std::string> read_hdf5_attributes(const std::string& path, std::string_view kind,
                                              const std::vector<std::string>& names) {
  const MappedFile file(path);
  const auto image = file.bytes();
  const auto raw =
      read_isolated(path, kReaderBytes, names.size() * (kLongestAttribute + 8), 60,
                    [&](const SendBytes& send) { Reader(path, kind, image).send_attributes(names, send); });
  file.require_unchanged();
  std::vector<std::string> values;
  std::span<const std::byte> left(raw);
  for (const auto& name : names) {
    const auto piece = next_piece(path, name, left);
    values.emplace_back(reinterpret_cast<const char*>(piece.data()), piece.size());
  }
  return values;
}

Hdf5Content read_hdf5(const std::string& path, std::string_view kind,
                      const std::vector<std::string>& attributes, const std::vector<Hdf5Dataset>& datasets) {
  const MappedFile file(path);
  const auto image = file.bytes();
  uint64_t most = 0;
  if (!multiply(image.size(), kDeflateRatio, most)) corrupt(path, "", "is too large");
  const auto raw = read_isolated(path, image.size() * 3 + kReaderBytes, most + (uint64_t{1} << 20), 600,
                                 [&](const SendBytes& send) {
                                   Reader reader(path, kind, image);
                                   reader.send_attributes(attributes, send);
                                   reader.send_datasets(datasets, send);
                                 });
  file.require_unchanged();
  Hdf5Content content;
  std::span<const std::byte> left(raw);
  for (const auto& name : attributes) {
    const auto piece = next_piece(path, name, left);
    content.attributes.emplace_back(reinterpret_cast<const char*>(piece.data()), piece.size());
  }
  for (const auto& dataset : datasets) {
    const auto piece = next_piece(path, dataset.name, left);
    const auto width = dataset.in_place ? sizeof(Hdf5Piece) : bytes_of(dataset.element);
    if (piece.size() % width != 0) corrupt(path, dataset.name, "is cut off");
    content.datasets.emplace_back();
    content.pieces.emplace_back();
    if (!dataset.in_place) {
      content.datasets.back().assign(piece.begin(), piece.end());
      continue;
    }
    auto& pieces = content.pieces.back();
    pieces.resize(piece.size() / sizeof(Hdf5Piece));
    if (!pieces.empty()) std::memcpy(pieces.data(), piece.data(), piece.size());
    for (const auto& [offset, size] : pieces)  // the child is not trusted
      if (offset > image.size() || size > image.size() - offset || size == 0 ||
          size % bytes_of(dataset.element) != 0)
        corrupt(path, dataset.name, "does not lie in the file");
  }
  if (!left.empty()) corrupt(path, "", "holds more than " + std::string(kind));
  return content;
}

std::string differences(const Provenance& now, const std::vector<std::string>& stored) {
  std::string differs;
  for (size_t i = 0; i < now.size(); ++i) {
    const auto& [name, value] = now[i];
    const auto& found = stored.at(i);
    if (found == value) continue;
    differs += fmt::format("{}{} (stored: {}, now: {})", differs.empty() ? "" : "; ", name,
                           found.empty() ? "nothing" : printable(found), printable(value));
  }
  return differs;
}

}  // namespace retort
