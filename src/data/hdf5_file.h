// A flat HDF5 file of ours: one-dimensional data sets and text attributes of the root. Written whole, equal bytes for equal
// content; read by a confined child that knows what to expect.
#pragma once
#include <cstddef>
#include <cstring>
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
  std::span<const std::byte> data = {};   // written; empty when reading
  bool deflate = true;                    // pointless for packed bits
};

void write_hdf5(const std::string& path, const Provenance& attributes, const std::vector<Hdf5Dataset>& datasets);

struct Hdf5Content {
  std::vector<std::string> attributes;            // in the order asked for; empty where the file has none
  std::vector<std::vector<std::byte>> datasets;

  template <class T> std::vector<T> values(size_t dataset) const {
    std::vector<T> all(datasets.at(dataset).size() / sizeof(T));
    if (!all.empty()) std::memcpy(all.data(), datasets[dataset].data(), all.size() * sizeof(T));
    return all;
  }
};

// Reads these attributes and exactly these data sets. FormatError when the file is damaged or hostile (links, external or
// virtual storage, variable-length or compound types, other filters than deflate and shuffle). `kind`: "a token store".
Hdf5Content read_hdf5(const std::string& path, std::string_view kind, const std::vector<std::string>& attributes, const std::vector<Hdf5Dataset>& datasets);

// Names whose values differ, as "name (stored: a, now: b); ..."; empty when all agree.
std::string differences(const Provenance& now, const std::vector<std::string>& stored);

}  // namespace retort
