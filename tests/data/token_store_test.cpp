#include "data/token_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <thread>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "data/hdf5_handle.h"
#include "data/isolated_read.h"
#include "data/temporary_folder.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

const Provenance kMadeFrom = {
    {"format", "retort tokens 4"}, {"template", "chatml"}, {"tokenizer", "abc"}, {"source_0", "sha256 1"}};

StoredSamples two_samples() {
  StoredSamples samples;
  samples.train = {{{1, 2, 3}, {0, 0, 1}, "f:1"}, {{4, 5}, {0, 1}, "f:2"}};
  samples.held_out = {{{6, 7, 8, 9}, {0, 1, 1, 1}, "f:3"}};
  samples.held_out_rows = {2};
  samples.counts.records = 3;
  samples.counts.tokens = 9;
  return samples;
}

std::string problem(const std::function<void()>& action) {
  try {
    action();
  } catch (const FormatError& error) { return error.what(); }
  return "";
}

TEST(TokenStore, ReadsBackWhatWasWritten) {
  TemporaryFolder folder;
  const auto path = folder / "tokens.h5";
  write_token_store(path, two_samples(), kMadeFrom);
  const auto read = read_token_store(path, kMadeFrom, 10);
  ASSERT_EQ(read.train.size(), 2u);
  ASSERT_EQ(read.held_out.size(), 1u);
  EXPECT_EQ(read.train[1].tokens, (std::vector<int32_t>{4, 5}));
  EXPECT_EQ(read.train[1].weights, (std::vector<float>{0, 1}));
  EXPECT_EQ(read.train[1].id, "f:2");
  EXPECT_EQ(read.held_out[0].tokens, (std::vector<int32_t>{6, 7, 8, 9}));
  EXPECT_EQ(read.held_out_rows, (std::vector<int64_t>{2}));
  EXPECT_EQ(read.counts.records, 3);
  EXPECT_EQ(read.counts.tokens, 9);
  const auto hash = sha256_file(path);
  write_token_store(path, two_samples(), kMadeFrom);
  EXPECT_EQ(sha256_file(path), hash);  // no time stamps
}

TEST(TokenStore, LargeStoresSpanManyBlocks) {
  TemporaryFolder folder;
  std::vector<Sample> written;
  for (int s = 0; s < 2500; ++s) {
    Sample sample;
    for (int i = 0; i < 1000; ++i)
      sample.tokens.push_back((s * 7919 + i * 31) % 49152),
          sample.weights.push_back(i % 2 == 0 ? 0.0f : 1.0f);
    sample.id = "f:" + std::to_string(s);
    written.push_back(sample);
  }
  write_token_store(folder / "t.h5", {written, {}, {}, {}}, kMadeFrom);
  const auto read = read_token_store(folder / "t.h5", kMadeFrom, 49152);
  ASSERT_EQ(read.train.size(), written.size());
  for (size_t s = 0; s < written.size(); ++s) {
    const auto sample = read.train[s];
    ASSERT_EQ(sample.tokens, written[s].tokens);
    ASSERT_EQ(sample.weights, written[s].weights);
    ASSERT_EQ(sample.id, written[s].id);
    ASSERT_EQ(read.train.tokens(s), 1000);
  }
}

TEST(TokenStore, SaysWhatDiffers) {
  TemporaryFolder folder;
  write_token_store(folder / "t.h5", two_samples(), kMadeFrom);
  auto other = kMadeFrom;
  other[1].second = "llama3";
  other[3].second = "sha256 2";
  const auto message = problem([&] { read_token_store(folder / "t.h5", other, 10); });
  EXPECT_NE(
      message.find("template (stored: chatml, now: llama3); source_0 (stored: sha256 1, now: sha256 2)"),
      std::string::npos)
      << message;
}

// The three samples, as bytes that nobody checked.
struct RawStore {
  std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::vector<uint8_t> weights = {0, 0, 1, 0, 1, 0, 1, 1, 1};
  std::vector<int64_t> offsets = {0, 3, 5, 9}, held_out = {2}, id_offsets = {0, 3, 6, 9},
                       counts = std::vector<int64_t>(13);
  std::string ids = "f:1f:2f:3";
  bool compressed = false;

  void write(const std::string& path) const {
    const auto raw = [](const auto& values) {
      return std::as_bytes(std::span(values.data(), values.size()));
    };
    write_hdf5(path, kMadeFrom,
               {{"tokens", Hdf5Element::i32, raw(tokens), compressed},
                {"weights", Hdf5Element::u8, raw(weights), false},
                {"offsets", Hdf5Element::i64, raw(offsets)},
                {"held_out", Hdf5Element::i64, raw(held_out)},
                {"ids", Hdf5Element::u8, raw(ids)},
                {"id_offsets", Hdf5Element::i64, raw(id_offsets)},
                {"counts", Hdf5Element::i64, raw(counts)}});
  }
};

TEST(TokenStore, RefusesNumbersThatAreNoSamples) {
  TemporaryFolder folder;
  const auto refused = [&](const char* expected, const std::function<void(RawStore&)>& change,
                           int64_t vocabulary = 10) {
    RawStore store;
    change(store);
    store.write(folder / "t.h5");
    const auto message = problem([&] { read_token_store(folder / "t.h5", kMadeFrom, vocabulary); });
    EXPECT_NE(message.find(expected), std::string::npos) << expected << ": " << message;
  };
  RawStore().write(folder / "t.h5");
  EXPECT_EQ(read_token_store(folder / "t.h5", kMadeFrom, 10).held_out[0].tokens,
            (std::vector<int32_t>{6, 7, 8, 9}));  // contiguous ones are read too
  refused(
      "token 8 is 9; the vocabulary has 9", [](RawStore&) {}, 9);
  refused("token 0 is -1", [](RawStore& s) { s.tokens[0] = -1; });
  refused("weights: value 3 is 2; expected a weight of 0 or 1", [](RawStore& s) { s.weights[3] = 2; });
  refused("weights: 8 values for 9 tokens", [](RawStore& s) { s.weights.pop_back(); });
  refused("more samples held out", [](RawStore& s) { s.held_out.assign(9, 0); });
  refused("offsets: does not divide", [](RawStore& s) { s.offsets[1] = 6; });
  refused("offsets: does not divide", [](RawStore& s) { s.offsets[3] = 10; });
  refused("another number of samples", [](RawStore& s) { s.id_offsets = {0, 9}; });
  refused("counts: 12 values", [](RawStore& s) { s.counts.pop_back(); });
  refused("tokens: is compressed", [](RawStore& s) { s.compressed = true; });
}

TEST(TokenStore, AFileThatChangesLaterIsNotTrainedOn) {
  TemporaryFolder folder;
  const auto path = folder / "t.h5";
  write_token_store(path, two_samples(), kMadeFrom);
  const auto read = read_token_store(path, kMadeFrom, 10);
  const auto whole = read_text(path);
  folder.write("t.h5", whole + "x");
  EXPECT_NE(problem([&] { (void)read.train[0]; }).find("changed while it was being read"), std::string::npos);
}

TEST(TokenStore, AnotherVersionSaysSo) {
  TemporaryFolder folder;
  const std::vector<float> weights = {0};
  write_hdf5(folder / "t.h5", {{"format", "retort tokens 1"}},
             {{"weights", Hdf5Element::f32, std::as_bytes(std::span(weights))}});
  const auto message = problem([&] {
    read_token_store(folder / "t.h5", {{"format", "retort tokens 4"}}, 10);
  });
  EXPECT_NE(message.find("format (stored: retort tokens 1, now: retort tokens 4)"), std::string::npos)
      << message;
}

// A store made by hand, one thing in it changed by `change`.
void make_store(const std::string& path,
                const std::function<bool(hid_t file, const std::string& name)>& change) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  const Hdf5Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
  const std::pair<const char*, hid_t> sets[] = {{"tokens", H5T_STD_I32LE},  {"weights", H5T_STD_U8LE},
                                                {"offsets", H5T_STD_I64LE}, {"held_out", H5T_STD_I64LE},
                                                {"ids", H5T_STD_U8LE},      {"id_offsets", H5T_STD_I64LE},
                                                {"counts", H5T_STD_I64LE}};
  for (const auto& [name, type] : sets) {
    if (change(file, name)) continue;
    const hsize_t extent = std::string(name) == "counts" ? 13 : 1;
    const Hdf5Handle space(H5Screate_simple(1, &extent, nullptr), H5Sclose);
    const Hdf5Handle dataset(H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                             H5Dclose);
    const std::vector<std::byte> zeros(extent * 8);
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros.data());
  }
}

hid_t simple(hsize_t extent) { return H5Screate_simple(1, &extent, nullptr); }

TEST(TokenStore, RefusesHostileHdf5) {
  TemporaryFolder folder;
  const auto secret = folder.write("secret", "CANARY CANARY CANARY CANARY CANARY CANARY");
  const auto refused = [&](const char* what, const char* expected,
                           const std::function<bool(hid_t, const std::string&)>& change) {
    make_store(folder / "t.h5", change);
    const auto message = problem([&] { read_token_store(folder / "t.h5", {}, 100); });
    EXPECT_NE(message.find(expected), std::string::npos) << what << ": " << message;
    EXPECT_EQ(message.find("CANARY"), std::string::npos) << what;
  };
  // The unchanged one is refused only for what it says: offsets [0] over one token.
  refused("plain", "offsets: does not divide the data", [](hid_t, const std::string&) { return false; });
  refused("external storage", "keeps its data in another file", [&](hid_t file, const std::string& name) {
    if (name != "tokens") return false;
    const Hdf5Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_external(properties, secret.c_str(), 0, 16);
    H5Dclose(H5Dcreate2(file, "tokens", H5T_STD_I32LE, simple(4), H5P_DEFAULT, properties, H5P_DEFAULT));
    return true;
  });
  refused("soft link", "is a link", [](hid_t file, const std::string& name) {
    return name == "weights" && H5Lcreate_soft("/tokens", file, "weights", 0, 0) >= 0;
  });
  refused("external link", "is a link", [&](hid_t file, const std::string& name) {
    return name == "tokens" && H5Lcreate_external(secret.c_str(), "/x", file, "tokens", 0, 0) >= 0;
  });
  refused("group", "is no data set", [](hid_t file, const std::string& name) {
    return name == "ids" && H5Gclose(H5Gcreate2(file, "ids", 0, 0, 0)) >= 0;
  });
  refused("missing", "other objects", [](hid_t, const std::string& name) { return name == "ids"; });
  refused("one more", "other objects", [](hid_t file, const std::string& name) {
    if (name == "ids") H5Gclose(H5Gcreate2(file, "more", 0, 0, 0));
    return false;
  });
  refused("variable length", "another element type", [](hid_t file, const std::string& name) {
    return name == "ids" &&
           H5Dclose(H5Dcreate2(file, "ids", H5Tvlen_create(H5T_STD_U8LE), simple(1), 0, 0, 0)) >= 0;
  });
  refused("compound", "another element type", [](hid_t file, const std::string& name) {
    if (name != "tokens") return false;
    const hid_t type = H5Tcreate(H5T_COMPOUND, 4);
    H5Tinsert(type, "x", 0, H5T_STD_I32LE);
    return H5Dclose(H5Dcreate2(file, "tokens", type, simple(1), 0, 0, 0)) >= 0;
  });
  refused("big endian", "another element type", [](hid_t file, const std::string& name) {
    return name == "tokens" && H5Dclose(H5Dcreate2(file, "tokens", H5T_STD_I32BE, simple(1), 0, 0, 0)) >= 0;
  });
  refused("two dimensions", "not one-dimensional", [](hid_t file, const std::string& name) {
    const hsize_t extent[2] = {2, 2};
    return name == "tokens" && H5Dclose(H5Dcreate2(file, "tokens", H5T_STD_I32LE,
                                                   H5Screate_simple(2, extent, nullptr), 0, 0, 0)) >= 0;
  });
  refused("other filter", "filter other than", [](hid_t file, const std::string& name) {
    if (name != "tokens") return false;
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t chunk = 1;
    H5Pset_chunk(properties, 1, &chunk);
    H5Pset_fletcher32(properties);
    return H5Dclose(H5Dcreate2(file, "tokens", H5T_STD_I32LE, simple(1), 0, properties, 0)) >= 0;
  });
  refused("huge extent, nothing stored", "claims more elements", [](hid_t file, const std::string& name) {
    if (name != "tokens") return false;
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t chunk = 1024;
    H5Pset_chunk(properties, 1, &chunk);
    return H5Dclose(H5Dcreate2(file, "tokens", H5T_STD_I32LE, simple(hsize_t{1} << 60), 0, properties, 0)) >=
           0;
  });
  refused("in chunks of which none is there", "does not lie in the file",
          [](hid_t file, const std::string& name) {
            if (name != "tokens") return false;
            const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
            const hsize_t chunk = 2;
            H5Pset_chunk(properties, 1, &chunk);
            return H5Dclose(H5Dcreate2(file, "tokens", H5T_STD_I32LE, simple(4), 0, properties, 0)) >= 0;
          });
  refused("virtual", "storage layout", [&](hid_t file, const std::string& name) {
    if (name != "tokens") return false;
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_virtual(properties, simple(4), secret.c_str(), "x", simple(4));
    return H5Dclose(H5Dcreate2(file, "tokens", H5T_STD_I32LE, simple(4), 0, properties, 0)) >= 0;
  });
}

TEST(TokenStore, DamagedFilesAreRefusedOrReadWhole) {
  TemporaryFolder folder;
  write_token_store(folder / "t.h5", two_samples(), kMadeFrom);
  const auto whole = read_text(folder / "t.h5");
  const auto attempt = [&](const std::string& content) {
    const auto path = folder.write("damaged.h5", content);
    try {
      read_token_store(path, kMadeFrom, 10);
    } catch (const FormatError&) {}
  };
  EXPECT_NE(problem([&] { read_token_store(folder.write("e.h5", ""), kMadeFrom, 10); }), "");
  EXPECT_NE(problem([&] { read_token_store(folder.write("e.h5", "PK\x03\x04 not hdf5"), kMadeFrom, 10); }),
            "");
  for (size_t length = 0; length < whole.size(); length += whole.size() / 40 + 1)
    attempt(whole.substr(0, length));
  for (size_t at = 0; at < whole.size(); at += whole.size() / 120 + 1) {
    auto flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 0xFF);
    attempt(flipped);
  }
}

TEST(IsolatedRead, TheChildCanOnlyAnswer) {
  const auto run = [](const std::function<void(const SendBytes&)>& read, int seconds = 5) {
    return problem([&] { read_isolated("f.h5", uint64_t{64} << 20, 1000, seconds, read); });
  };
  const auto say = [](const SendBytes& send, const std::string& text) {
    send(std::as_bytes(std::span(text.data(), text.size())));
  };
  const auto answer = read_isolated("f.h5", uint64_t{64} << 20, 1000, 5, [&](const SendBytes& send) {
    say(send, ::open("/etc/passwd", O_RDONLY) < 0 ? "no file " : "FILE ");
    say(send, ::socket(AF_INET, SOCK_STREAM, 0) < 0 ? "no socket " : "SOCKET ");
    say(send, ::fork() < 0 ? "no process" : "PROCESS");
  });
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(answer.data()), answer.size()),
            "no file no socket no process");
  EXPECT_NE(run([](const SendBytes&) { std::raise(SIGKILL); }).find("f.h5: "), std::string::npos);
  EXPECT_NE(run([](const SendBytes&) { ::_exit(0); }).find("f.h5: "), std::string::npos);
  EXPECT_NE(run([](const SendBytes&) { corrupt("f.h5", "x", "is bad"); }), "");
  EXPECT_EQ(run([](const SendBytes&) { corrupt("f.h5", "x", "is bad"); }), "f.h5: x: is bad");
  EXPECT_NE(run([&](const SendBytes& send) { say(send, std::string(2000, 'x')); }).find("holds more than"),
            std::string::npos);
  EXPECT_NE(run([](const SendBytes&) {
              std::vector<char> much(size_t{1} << 30);
              much[5] = 1;
            }),
            "");
  EXPECT_NE(run(
                [](const SendBytes&) {
                  for (volatile uint64_t i = 0;;) i = i + 1;
                },
                1)
                .find("too long"),
            std::string::npos);
}

TEST(TokenStore, DatasetsComeFromTheCacheUntilSomethingChanges) {
  TemporaryFolder folder;
  ByteTokenizer tokenizer({"<|im_start|>", "<|im_end|>"});
  tokenizer.eos = 257;
  std::string lines;
  for (int i = 0; i < 50; ++i) lines += "{\"prompt\":\"q" + std::to_string(i) + "\",\"completion\":\"a\"}\n";
  DataSpec spec;
  spec.sources.emplace_back();
  spec.sources[0].path = folder.write("x.jsonl", lines);
  spec.held_out.count = 5;
  spec.cache = folder / "cache/tokens.h5";
  const auto& chat = *find_chat_template("chatml");
  bool cached = true;
  const auto built = load_dataset(spec, tokenizer, chat, &cached);
  EXPECT_FALSE(cached);
  const auto read = load_dataset(spec, tokenizer, chat, &cached);
  EXPECT_TRUE(cached);
  ASSERT_EQ(read.train.size(), built.train.size());
  for (size_t i = 0; i < built.train.size(); ++i) {
    EXPECT_EQ(read.train[i].tokens, built.train[i].tokens);
    EXPECT_EQ(read.train[i].weights, built.train[i].weights);
    EXPECT_EQ(read.train[i].id, built.train[i].id);
  }
  ASSERT_EQ(read.held_out_records.size(), 5u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(read.held_out_records[i].place, built.held_out_records[i].place);
  EXPECT_EQ(read.counts.supervised, built.counts.supervised);

  spec.loss = "all";
  EXPECT_NE(problem([&] { load_dataset(spec, tokenizer, chat); }).find("settings"), std::string::npos);
  spec.loss = "completion";
  folder.write("x.jsonl", lines + "{\"prompt\":\"q\",\"completion\":\"a\"}\n");
  const auto message = problem([&] { load_dataset(spec, tokenizer, chat); });
  EXPECT_NE(message.find("source_0"), std::string::npos) << message;
  EXPECT_EQ(message.find("template"), std::string::npos) << message;
}

}  // namespace
}  // namespace retort
