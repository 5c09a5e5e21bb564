// A flat HDF5 file of ours: one-dimensional data sets and text attributes of the root. Written whole, equal
// bytes for equal content; read by a confined child that knows what to expect.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace retort {

// What a file was made from: names and values, compared one by one.
using Provenance = std::vector<std::pair<std::string, std::string>>;

enum class Hdf5Element { i32, i64, f32, u8 };

struct Hdf5Dataset {
  const char* name;
  Hdf5Element element;
  std::span<const std::byte> data = {};  // written; empty when reading
  bool deflate = true;                   // pointless for packed bits
  bool in_place = false;                 // read: its bytes stay in the file, see Hdf5Content::pieces
};

void write_hdf5(const std::string& path, const Provenance& attributes,
                const std::vector<Hdf5Dataset>& datasets);

// Writes such a file piece by piece, so that it never is in memory. Nothing is there under `path` before
// finish().
class Hdf5Writer {
 public:
  explicit Hdf5Writer(const std::string& path);
  ~Hdf5Writer();
  // A data set that grows; it is stored as it is, in long pieces, and can be read in place.
  size_t add_stream(const char* name, Hdf5Element element);
  void append(size_t stream, std::span<const std::byte> data);  // whole elements
  void finish(const Provenance& attributes,
              const std::vector<Hdf5Dataset>& datasets);  // the rest of the file, written at once

 private:
  struct Stream;
  struct State;
  std::unique_ptr<State> state_;
};

// Bytes of a data set in the file, one stretch after another.
struct Hdf5Piece {
  uint64_t offset = 0, size = 0;
};

struct Hdf5Content {
  std::vector<std::string> attributes;           // in the order asked for; empty where the file has none
  std::vector<std::vector<std::byte>> datasets;  // empty for those that are read in place
  std::vector<std::vector<Hdf5Piece>> pieces;    // of those: inside the file, each a whole number of elements

  template <class T> std::vector<T> values(size_t dataset) const {
    std::vector<T> all(datasets.at(dataset).size() / sizeof(T));
    if (!all.empty()) std::memcpy(all.data(), datasets[dataset].data(), all.size() * sizeof(T));
    return all;
  }
};

// Reads these attributes and exactly these data sets. FormatError when the file is damaged or hostile (links,
// external or virtual storage, variable-length or compound types, other filters than deflate and shuffle).
// `kind`: "a token store". read_hdf5_attributes() reads nothing else, so that files of another version can
// say so.
std::vector<std::string> read_hdf5_attributes(const std::string& path, std::string_view kind,
                                              const std::vector<std::string>& names);
Hdf5Content read_hdf5(const std::string& path, std::string_view kind,
                      const std::vector<std::string>& attributes, const std::vector<Hdf5Dataset>& datasets);

// Names whose values differ, as "name (stored: a, now: b); ..."; empty when all agree.
std::string differences(const Provenance& now, const std::vector<std::string>& stored);

}  // namespace retort
