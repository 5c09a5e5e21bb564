// Ranks that divide a model's layers give the hidden states of Model::hidden(), to the bit, read no layer of
// another rank, and work at the same time.
#include "schedule/divided_read.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <numeric>
#include <set>

#include "data/temporary_folder.h"    // tests/data
#include "schedule/counted_stream.h"  // tests/schedule
#include "train/peers_of_threads.h"   // tests/train
#include "where.h"                    // tests

namespace retort {
namespace {

LoadedModel load(const std::string& family, const std::string& memory, const std::string& scratch = "") {
  const auto folder = std::filesystem::path(source_dir()) / "tests/golden/models" / family;
  return load_weights({.path = folder.string(),
                       .schedule = memory.empty() ? "tokens" : "layers",
                       .memory = memory,
                       .scratch = scratch});
}

// Nine texts of different lengths, each a forest of its own.
const std::vector<Forest>& forests() {
  static const auto all = [] {
    std::vector<Forest> texts(9);
    for (int32_t i = 0; i < 9; ++i) {
      std::vector<int32_t> tokens;
      for (int32_t t = 0; t < 6 + i * 3; ++t) tokens.push_back((t * 7 + i * 13) % 90 + 3);
      texts[static_cast<size_t>(i)].add_segment(tokens);
    }
    return texts;
  }();
  return all;
}

Pass pass_of(int64_t text, at::ScalarType compute, bool some_rows) {
  auto pass = make_pass(forests()[static_cast<size_t>(text)], compute);
  if (some_rows) ask_for(pass, {0, 3});
  return pass;
}

// A message has its sender and its receiver wait for each other, as MPI's do.
std::vector<std::exception_ptr> ranks_that_meet(int64_t count, const std::function<void(Peers&)>& work) {
  return as_ranks(count, work, Sending::meets);
}

std::string bytes_of(const Tensor& values) {
  const auto whole = values.contiguous();
  return {static_cast<const char*>(whole.const_data_ptr()), whole.nbytes()};
}

// What rank 0 has of each text, and in which order it came.
struct Found {
  std::vector<std::string> hidden = std::vector<std::string>(forests().size());
  std::vector<int64_t> there;
  bool done = false;
};

// Reads all texts as one of several ranks, two texts side by side.
Found read_all(const Model& model, Peers& peers, const std::function<Pass(int64_t text)>& pass) {
  std::vector<int64_t> texts(forests().size());
  std::iota(texts.begin(), texts.end(), 0);
  Found found;
  found.done = read_divided(
      {.model = model,
       .peers = peers,
       .pass = pass,
       .use = [&](int64_t text,
                  Read&& read) { found.hidden[static_cast<size_t>(text)] = bytes_of(read.hidden[0]); },
       .packed = [&](int64_t text) { return found.hidden[static_cast<size_t>(text)]; },
       .unpack = [&](int64_t text,
                     std::string bytes) { found.hidden[static_cast<size_t>(text)] = std::move(bytes); },
       .there = [&](int64_t text) { found.there.push_back(text); }},
      texts, abreast(2, 9), "reading");
  return found;
}

Found read_all(const Model& model, Peers& peers) {
  return read_all(model, peers, [](int64_t text) { return pass_of(text, at::kFloat, false); });
}

// A budget with room for so many bytes of matrices that stay, in which no two texts have room together.
LayerStream::Budget one_by_one(const Model& streamed, uint64_t room) {
  auto budget = streamed.stream()->budget();
  budget.weights = std::max<uint64_t>(1, budget.stored);  // none goes before it is let go
  budget.states = 1, budget.room = room;
  return budget;
}

}  // namespace

TEST(DividedRead, GivesTheBitsOfOneProcess) {
  for (const auto* family : {"llama", "gemma3", "qwen3_moe", "deepseek_v32_sparse", "glm4_moe_lite_mixed"})
    for (const auto compute : {at::kFloat, at::kBFloat16})
      for (const bool some_rows : {false, true}) {
        const auto pass = [&](int64_t text) { return pass_of(text, compute, some_rows); };
        const auto resident = load(family, "");
        std::vector<std::string> want;
        for (int64_t i = 0; i < static_cast<int64_t>(forests().size()); ++i)
          want.push_back(bytes_of(resident.model->hidden(pass(i))));
        for (const auto* memory : {"1B", "1GiB"})
          for (int64_t count = 1; count <= 4; ++count) {
            Found at_rank_0;
            const auto thrown = ranks_that_meet(count, [&](Peers& peers) {
              // Rank 1 has the model in memory: the others' layers are divided all the same.
              const auto loaded = load(family, peers.rank() == 1 ? "" : memory);
              auto found = read_all(*loaded.model, peers, pass);
              EXPECT_TRUE(found.done);
              if (peers.rank() == 0) at_rank_0 = std::move(found);
            });
            for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
            EXPECT_TRUE(at_rank_0.hidden == want) << family << " " << memory << " " << count << " ranks";
            EXPECT_EQ(at_rank_0.there, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8}));
          }
      }
}

TEST(DividedRead, TextsMayWaitInAScratchFolder) {
  const TemporaryFolder folder;
  const auto scratch = folder / "scratch";
  const auto resident = load("qwen3_moe", "");
  Found at_rank_0;
  const auto thrown = ranks_that_meet(2, [&](Peers& peers) {
    const auto loaded = load("qwen3_moe", "1B", scratch);
    auto found = read_all(*loaded.model, peers);
    if (peers.rank() == 0) at_rank_0 = std::move(found);
  });
  for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
  for (int64_t i = 0; i < 9; ++i)
    EXPECT_TRUE(at_rank_0.hidden[static_cast<size_t>(i)] ==
                bytes_of(resident.model->hidden(pass_of(i, at::kFloat, false))));
  EXPECT_TRUE(std::filesystem::is_empty(scratch));
}

// Every rank reads its own layers alone: once where they stay, and once a group where they have no room.
TEST(DividedRead, ARankReadsItsOwnLayersAlone) {
  for (const auto* family : {"llama", "qwen3_moe"})
    for (const bool stays : {false, true}) {
      const auto resident = load(family, "");
      const auto layers = resident.model->config.layers;
      ASSERT_GE(layers, 2);
      constexpr int64_t kGroups = 9;  // one for each text
      std::vector<std::map<TensorPlace, int64_t>> reads(2);
      const auto thrown = ranks_that_meet(2, [&](Peers& peers) {
        CountedReads counted;  // outlives the stream that it hears of
        const auto loaded = load(family, "1GiB");
        const auto budget = one_by_one(*loaded.model, stays ? loaded.model->stream()->budget().stored : 1);
        hear_reads(*loaded.model, *resident.model, budget,
                   [&](const TensorPlace& place) { counted.add(place); });
        EXPECT_TRUE(read_all(*loaded.model, peers).done);
        reads[static_cast<size_t>(peers.rank())] = counted.take();
      });
      for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
      std::map<int64_t, int64_t> readers;  // of each layer
      for (const auto& of_rank : reads) {
        std::set<int64_t> own;
        for (const auto& [place, count] : of_rank) {
          own.insert(place.layer);
          if (stays) {
            EXPECT_EQ(count, 1) << family << " layer " << place.layer;
          } else if (place.expert < 0) {  // those are read where they are chosen
            EXPECT_EQ(count, kGroups) << family << " layer " << place.layer;
          }
        }
        EXPECT_FALSE(own.empty());
        for (const auto layer : own) ++readers[layer];
      }
      EXPECT_EQ(static_cast<int64_t>(readers.size()), layers);
      for (const auto& [layer, count] : readers) EXPECT_EQ(count, 1) << "ranks read layer " << layer;
    }
}

// Rank 1 does not get on with the first group before rank 0 is at work on the second.
TEST(DividedRead, RanksWorkAtTheSameTime) {
  std::mutex mutex;
  std::condition_variable changed;
  bool second_begun = false, waited_for_it = false;
  const auto thrown = ranks_that_meet(2, [&](Peers& peers) {
    const auto loaded = load("llama", "1B");
    read_all(*loaded.model, peers, [&, rank = peers.rank()](int64_t text) {
      auto pass = pass_of(text, at::kFloat, false);
      pass.after_layer = [&, rank, text](int64_t, const Tensor&) {
        std::unique_lock lock(mutex);
        if (rank == 0 && text > 0) {
          second_begun = true;
          changed.notify_all();
        }
        if (rank == 1 && text == 0)
          waited_for_it = changed.wait_for(lock, std::chrono::seconds(30), [&] { return second_begun; });
      };
      return pass;
    });
  });
  for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
  EXPECT_TRUE(waited_for_it);
}

// Whichever rank is asked to stop at whichever text: all end, and what rank 0 has is whole.
TEST(DividedRead, AStopOfOneRankEndsAll) {
  for (int64_t stopped = 0; stopped < 3; ++stopped)
    for (const int64_t at_text : {0, 4, 8}) {
      std::vector<Found> found(3);
      const auto thrown = ranks_that_meet(3, [&](Peers& peers) {
        const auto loaded = load("deepseek_v3", "1B");
        ASSERT_GE(loaded.model->config.layers, 3);
        found[static_cast<size_t>(peers.rank())] =
            read_all(*loaded.model, peers, [&, rank = peers.rank()](int64_t text) {
              auto pass = pass_of(text, at::kFloat, false);
              pass.after_layer = [=](int64_t, const Tensor&) {
                if (rank == stopped && text == at_text) throw Stopped("asked to");
              };
              return pass;
            });
      });
      for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
      for (const auto& each : found) EXPECT_FALSE(each.done) << stopped << " " << at_text;
      const auto& there = found[0].there;
      EXPECT_LE(static_cast<int64_t>(there.size()), at_text);
      for (size_t i = 0; i < there.size(); ++i) EXPECT_EQ(there[i], static_cast<int64_t>(i));
    }
}

// What goes wrong at rank 0 is thrown there once the others know; at another rank it is thrown at once.
TEST(DividedRead, AFailureIsThrownWhereItHappens) {
  for (int64_t failed = 0; failed < 2; ++failed) {
    std::vector<Found> found(2);
    const auto resident = load("llama", "");
    const auto thrown = ranks_that_meet(2, [&](Peers& peers) {
      const auto loaded = load("llama", "1GiB");
      hear_reads(*loaded.model, *resident.model, one_by_one(*loaded.model, 1), [&](const TensorPlace&) {
        if (peers.rank() == failed) throw FormatError("shard 2: the disk is gone");
      });
      found[static_cast<size_t>(peers.rank())] = read_all(*loaded.model, peers);
    });
    EXPECT_EQ(text_of(thrown[static_cast<size_t>(failed)]), "shard 2: the disk is gone");
    if (failed == 0) {
      EXPECT_EQ(text_of(thrown[1]), "");
      EXPECT_FALSE(found[1].done);
    } else {
      EXPECT_EQ(text_of(thrown[0]), "rank 1 is gone");
    }
    EXPECT_TRUE(found[0].there.empty());
  }
}

// A full disk, say, where rank 0 keeps what it gets.
TEST(DividedRead, WhatRankZeroCannotKeepEndsAll) {
  std::vector<char> done(3, 1);
  const auto thrown = ranks_that_meet(3, [&](Peers& peers) {
    const auto loaded = load("deepseek_v3", "1B");
    const std::vector<int64_t> texts = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    done[static_cast<size_t>(peers.rank())] =
        read_divided({.model = *loaded.model,
                      .peers = peers,
                      .pass = [](int64_t text) { return pass_of(text, at::kFloat, false); },
                      .use = [](int64_t, Read&&) {},
                      .packed = [](int64_t) { return "it"; },
                      .unpack =
                          [](int64_t text, const std::string&) {
                            if (text == 2) throw Failure("no space left");
                          }},
                     texts, abreast(2, 9), "reading");
  });
  EXPECT_EQ(text_of(thrown[0]), "no space left");
  for (const size_t rank : {1, 2}) {
    EXPECT_EQ(text_of(thrown[rank]), "");
    EXPECT_FALSE(done[rank]);
  }
}

}  // namespace retort
