// Trainings of several ranks end with the bytes of one process, however many ranks there are, and whatever
// number goes on after a stop.
#include "train/peers.h"

#include <atomic>
#include <cmath>

#include "base/files.h"
#include "base/stop.h"
#include "train/checkpoint.h"
#include "train/peers_of_threads.h"
#include "train/tiny_run.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

// Everything that draws, counts or remembers.
TrainSpec spec_of_ranks() {
  auto spec = tiny_spec();
  spec.batch.samples = 16;
  spec.batch.pass_tokens = 32;  // several forests a step
  spec.epochs = 3;              // 6 steps of 16 and 14 samples
  spec.neftune_alpha = 5;
  spec.evaluate = {.every = 2, .patience = 0, .keep_best = false};
  spec.checkpoint.every = 2;
  return spec;
}

struct Ended {
  std::string weights, metrics;
  bool operator==(const Ended&) const = default;
};

// One session of so many ranks (0: a process without peers). nullopt when it was stopped, which happens in
// call number `stop_at` of the objective.
std::optional<Ended> session(int64_t ranks, const fs::path& folder, int64_t stop_at = 0) {
  std::atomic<int64_t> calls = 0;
  std::vector<Ended> ended(static_cast<size_t>(std::max<int64_t>(1, ranks)));
  const auto work = [&](Peers* peers) {
    const auto rank = peers ? peers->rank() : 0;
    const fs::path own = rank == 0 ? folder : fs::path(fmt::format("{}.rank-{}", folder.string(), rank));
    TinyRun run(lora(4, 0.2));
    auto job = run.job(own);
    job.peers = peers;
    job.objective = [&](const Model& model, const Forest& forest, const Pass& pass) {
      if (++calls == stop_at) request_stop();
      return next_token_objective()(model, forest, pass);
    };
    const auto result = train(spec_of_ranks(), job);
    EXPECT_EQ(result.steps, result.planned);
    EXPECT_EQ(fs::exists(own / "trained.safetensors"), rank == 0);
    ended[static_cast<size_t>(rank)].weights = run.bytes();
    if (rank == 0) ended[0].metrics = read_text(own / "metrics.jsonl");
  };
  std::vector<std::exception_ptr> thrown(1);
  if (ranks > 0) thrown = as_ranks(ranks, [&](Peers& peers) { work(&peers); });
  else {
    try {
      work(nullptr);
    } catch (...) { thrown[0] = std::current_exception(); }
  }
  size_t stopped = 0;
  for (const auto& each : thrown) {
    if (!each) continue;
    EXPECT_NE(text_of(each).find("stopped while"), std::string::npos) << text_of(each);
    ++stopped;
  }
  forget_stop();
  EXPECT_TRUE(stopped == 0 || stopped == thrown.size()) << stopped << " ranks of " << thrown.size();
  if (stopped > 0) return std::nullopt;
  for (const auto& each : ended) EXPECT_TRUE(each.weights == ended[0].weights);
  return ended[0];
}

const Ended& alone() {
  static const Ended reference = [] {
    const TemporaryFolder folder;
    return *session(0, folder / "run");
  }();
  return reference;
}

}  // namespace

TEST(Peers, ABroadcastReachesAllFromAnyRoot) {
  for (int64_t count = 1; count <= 7; ++count)
    for (int64_t root = 0; root < count; ++root) {
      std::atomic<int64_t> heard = 0;
      const auto thrown = as_ranks(count, [&](Peers& peers) {
        const auto text = broadcast_text(peers, root, peers.rank() == root ? "word" : "");
        if (text == "word") ++heard;
      });
      for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
      EXPECT_EQ(heard.load(), count) << root;
    }
}

TEST(Peers, AllHearOfOne) {
  for (int64_t one = -1; one < 3; ++one) {
    std::atomic<int64_t> heard = 0;
    as_ranks(3, [&](Peers& peers) { heard += any_of(peers, peers.rank() == one); });
    EXPECT_EQ(heard.load(), one < 0 ? 0 : 3);
  }
}

TEST(Peers, TextsAreGatheredInTheOrderOfTheRanks) {
  std::vector<std::string> gathered;
  const auto thrown = as_ranks(4, [&](Peers& peers) {
    auto all = gather_texts(peers, fmt::format("of {}", peers.rank()));
    if (peers.rank() == 0) gathered = std::move(all);
    else EXPECT_TRUE(all.empty());
  });
  for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
  EXPECT_EQ(gathered, (std::vector<std::string>{"of 0", "of 1", "of 2", "of 3"}));
}

TEST(Peers, WorkIsDoneWhereNoneWasStoppedAndARankZeroThatFailsTellsTheOthers) {
  const auto done = [](int64_t who, const std::function<void()>& fail) {
    std::atomic<int64_t> all_done = 0;
    const auto thrown = as_ranks(3, [&](Peers& peers) {
      all_done += done_by_all(peers, [&] {
        if (peers.rank() == who) fail();
      });
    });
    return std::pair(all_done.load(), thrown);
  };
  EXPECT_EQ(done(-1, [] {}).first, 3);
  const auto [none, stopped] = done(1, [] { throw Stopped("stopped"); });
  EXPECT_EQ(none, 0);
  for (const auto& each : stopped) EXPECT_EQ(text_of(each), "");  // each leaves in its own way
  const auto [left, failed] = done(0, [] { throw Failure("no room"); });
  EXPECT_EQ(left, 0);
  EXPECT_EQ(text_of(failed[0]), "no room");
  EXPECT_EQ(text_of(failed[1]), "");
  EXPECT_EQ(text_of(failed[2]), "");
  EXPECT_EQ(text_of(done(2, [] { throw Failure("no room"); }).second[2]), "no room");
}

// 3 threads over 7 forests: one each. 8 over 2: four each, also where a rank has one of the two.
TEST(Peers, AForestHasAsManyInnerThreadsAsInOneProcess) {
  EXPECT_EQ(threads_of_share(3, 7, 4), 3);
  EXPECT_EQ(threads_of_share(3, 7, 2), 2);
  EXPECT_EQ(threads_of_share(8, 2, 2), 8);
  EXPECT_EQ(threads_of_share(8, 2, 1), 4);
  EXPECT_EQ(threads_of_share(8, 2, 0), 0);
}

TEST(Peers, ARankThatIsOtherIsRefusedByName) {
  const auto thrown = as_ranks(3, [](Peers& peers) {
    require_equal(peers, {{"samples", "0a"}, {"kernel", peers.rank() == 2 ? "avx2" : "avx512"}});
  });
  EXPECT_EQ(
      text_of(thrown[0]),
      "rank 2 on host 3 is not equal to rank 0 on host 1: kernel: avx512 at rank 0, avx2 at rank 2; all "
      "ranks need the same recipe, samples, base, program, CPU and number of threads");
  EXPECT_EQ(text_of(thrown[1]), "rank 0 is gone");  // it did not go on
  const auto equal = as_ranks(3, [](Peers& peers) {
    require_equal(peers, {{"samples", "0a"}, {"empty", ""}});
  });
  for (const auto& each : equal) EXPECT_EQ(text_of(each), "");
}

TEST(Peers, SharesFollowEachOtherAndCoverAllForests) {
  for (int64_t count = 1; count <= 5; ++count)
    for (int64_t first = 0; first <= 9; ++first) {
      ThreadWorld world(count);
      auto at = first;
      for (int64_t rank = 0; rank < count; ++rank) {
        const ThreadPeers peers(world, rank);
        const auto share = share_of(first, 9, &peers);
        EXPECT_EQ(share.begin, at);
        EXPECT_LE(share.end - share.begin, (9 - first) / count + 1);
        at = share.end;
      }
      EXPECT_EQ(at, 9);
    }
}

TEST(Peers, SumsArriveAsTheyWereSentAlsoWhereAWeightHasNone) {
  const std::vector<Tensor> leaves = {at::zeros({2, 3}), at::zeros({1}), at::zeros({4})};
  StepSums sent;
  sent.gradients = {at::full({2, 3}, 0.1), Tensor(), at::full({4}, -0.0)};
  sent.nats = 0.3, sent.weight = 7, sent.forests = 5;
  const auto check = [&](const StepSums& sums) {
    EXPECT_EQ(sums.nats, 0.3);
    EXPECT_EQ(sums.weight, 7);
    EXPECT_EQ(sums.forests, 5);
    ASSERT_EQ(sums.gradients.size(), 3u);
    EXPECT_TRUE(sums.gradients[0].equal(sent.gradients[0]));
    EXPECT_FALSE(sums.gradients[1].defined());
    EXPECT_TRUE(std::signbit(sums.gradients[2][3].item<float>()));
  };
  const auto thrown = as_ranks(3, [&](Peers& peers) {
    if (peers.rank() == 0) send_sums(peers, 1, sent);
    if (peers.rank() == 1) check(receive_sums(peers, 0, leaves));
    auto sums = peers.rank() == 2 ? sent : StepSums();
    broadcast_sums(peers, 2, leaves, sums);
    check(sums);
  });
  for (const auto& each : thrown) EXPECT_EQ(text_of(each), "");
}

// The forests of a step are several, or this test shows nothing: with one, ranks would have none to divide.
TEST(Peers, AStepOfTheseTrainingsHasSeveralForests) {
  const TinyRun run;
  const auto spec = spec_of_ranks();
  EXPECT_GE(plan_step(run.samples, first(16), spec.batch.pass_tokens, spec.threads).forests.size(), 4u);
}

TEST(Peers, OneToFiveRanksEndWithTheBytesOfOneProcess) {
  for (int64_t ranks = 1; ranks <= 5; ++ranks) {
    const TemporaryFolder folder;
    const auto ended = session(ranks, folder / "run");
    ASSERT_TRUE(ended);
    EXPECT_TRUE(ended->weights == alone().weights) << ranks;
    EXPECT_EQ(ended->metrics, alone().metrics) << ranks;
  }
}

TEST(Peers, AnotherNumberOfRanksGoesOnFromACheckpointToTheSameBytes) {
  int stops = 0, inside_steps = 0;
  for (uint64_t seed = 0; stops < 12; ++seed) {
    const TemporaryFolder folder;
    std::string where;
    std::optional<Ended> ended;
    for (uint64_t part = 0; !ended; ++part) {
      const auto ranks = static_cast<int64_t>(Draws(seed, "ranks").below(part, 5));  // 0: without peers
      const auto at = 1 + static_cast<int64_t>(Draws(seed, "stop").below(part, 40));
      where += fmt::format(" {} by {}", at, ranks);
      ended = session(ranks, folder / "run", at);
      if (ended) break;
      ++stops;
      for (const auto& name : Checkpoints(fs::path(folder / "run") / "checkpoints").list())
        inside_steps += name.forests > 0;
    }
    EXPECT_TRUE(ended->weights == alone().weights) << where;
    EXPECT_EQ(ended->metrics, alone().metrics) << where;
  }
  EXPECT_GT(inside_steps, 2);  // or the sums of a step begun were never saved
}

}  // namespace retort
