#include "schedule/divided_read.h"

#include <array>
#include <exception>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/parcel.h"
#include "base/stop.h"
#include "models/layer_stream.h"
#include "ops/workers.h"
#include "schedule/layer_cut.h"

namespace retort {
namespace {

// What comes before the states of a group.
enum class Word : char { states, end };

void say(Peers& peers, int64_t to, Word word) { peers.send(to, std::as_bytes(std::span(&word, 1))); }

Word hear(Peers& peers, int64_t from) {
  auto word = Word::end;
  peers.receive(from, std::as_writable_bytes(std::span(&word, 1)));
  return word;
}

struct StateHead {
  at::ScalarType type = at::kFloat;
  int64_t dimensions = 0;
  std::array<int64_t, 4> sizes = {};
};

void send_state(Peers& peers, int64_t to, const Tensor& state) {
  const auto whole = state.contiguous();
  StateHead head{whole.scalar_type(), whole.dim(), {}};
  for (size_t i = 0; i < static_cast<size_t>(whole.dim()); ++i) head.sizes.at(i) = whole.sizes()[i];
  peers.send(to, std::as_bytes(std::span(&head, 1)));
  peers.send(to, {static_cast<const std::byte*>(whole.const_data_ptr()), whole.nbytes()});
}

Tensor receive_state(Peers& peers, int64_t from) {
  StateHead head;
  peers.receive(from, std::as_writable_bytes(std::span(&head, 1)));
  auto state = at::empty(at::IntArrayRef(head.sizes.data(), static_cast<size_t>(head.dimensions)),
                         at::TensorOptions(head.type));
  peers.receive(from, {static_cast<std::byte*>(state.mutable_data_ptr()), state.nbytes()});
  return state;
}

// Ranks whose machine's free memory is divided among them.
int64_t sharers(const Peers& peers) {
  const auto first = peers.first_on_machine(peers.rank());
  int64_t count = 0;
  for (int64_t rank = 0; rank < peers.count(); ++rank) count += peers.first_on_machine(rank) == first;
  return count;
}

// What a rank has room for.
struct Room {
  bool stays = true;                                       // its layers, once they are read
  uint64_t states = std::numeric_limits<uint64_t>::max();  // bytes between two layers
};

// One rank's part of a reading.
class Stage {
 public:
  Stage(const DividedReading& reading, const std::vector<int64_t>& texts, const Abreast& how,
        std::string_view doing)
      : reading_(reading),
        model_(reading.model),
        peers_(reading.peers),
        texts_(texts),
        shelf_(model_.stream() ? model_.stream()->budget().scratch : ""),
        walk_{how, shelf_, doing} {}

  // What stayed is needed no longer.
  ~Stage() {
    auto* stream = model_.stream();
    if (!stream) return;
    stream->expect({});
    stream->keep({}, 0);
    stream->let_go(linears_from(own_.begin));
  }
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  // A group has room at every rank.
  void agree() {
    const auto cut = agree_on_layers(peers_, model_);
    last_ = static_cast<int64_t>(cut.size()) - 1;
    if (peers_.rank() <= last_) own_ = cut[static_cast<size_t>(peers_.rank())];
    room_ = agree_on_room();
  }

  // Nobody works beside another in fewer groups than ranks; each more reads the layers again that do not stay
  // in memory, so that it is to have more to compute then.
  void cut_texts() {
    constexpr int64_t kGroupsOfRank = 16, kWorthReading = 4;
    if (texts_.empty()) return;
    std::vector<int64_t> rows;
    for (const auto text : texts_) rows.push_back(reading_.pass(text).size());
    const auto most =
        static_cast<double>(room_.states) / state_bytes_at_work(model_, reading_.pass(texts_[0]).compute);
    constexpr auto kNoEnd = std::numeric_limits<int64_t>::max();
    groups_ = cut_groups(
        rows, {.most_groups = last_ > 0 ? kGroupsOfRank * (last_ + 1) : 1,
               .least_texts = walk_.how.passes,
               .least_rows = rows_worth_decoding(model_.config) * (room_.stays ? 1 : kWorthReading),
               .most_rows = most < 1e18 ? static_cast<int64_t>(most) : kNoEnd});
  }

  void read() {
    if (peers_.rank() > last_ || groups_.empty()) return;
    look_ahead(own_.begin);
    if (peers_.rank() == 0) lead();
    else follow();
  }

 private:
  Room agree_on_room() const {
    Room mine;
    if (auto* stream = model_.stream()) {
      const auto& budget = stream->budget();
      const auto parts = static_cast<uint64_t>(budget.of_machine ? sharers(peers_) : 1);
      mine.stays = stream->keep(linears_from(own_.begin), budget.room / parts);
      if (budget.scratch.empty()) mine.states = budget.states / parts;
    }
    Room all;
    for (auto& text : gather_texts(peers_, Parcel().put(mine).bytes())) {
      const auto one = Parcel(std::move(text)).take<Room>();
      all.stays = all.stays && one.stays, all.states = std::min(all.states, one.states);
    }
    Parcel agreed(broadcast_text(peers_, 0, Parcel().put(all).bytes()));
    return agreed.take<Room>();
  }

  std::vector<const Linear*> linears_from(int64_t layer) const {
    std::vector<const Linear*> linears;
    for (; layer < own_.end; ++layer)
      for (const auto* linear : model_.linears_of(layer)) linears.push_back(linear);
    return linears;
  }

  // Layers that stay are read one behind the other, while others compute; of the rest what comes next.
  void look_ahead(int64_t layer) const {
    auto* stream = model_.stream();
    if (!stream) return;
    if (room_.stays) return stream->expect(linears_from(layer));
    if (layer < own_.end) return stream->expect(read_first(model_, layer));
    stream->expect(begun_ < groups_.size() ? read_first(model_, own_.begin) : std::vector<const Linear*>());
  }

  // The states of a group, behind the last of this rank's layers.
  void compute(const Share& group, std::vector<Tensor>& states) {
    ++begun_;
    const auto count = group.size();
    std::vector<Pass> passes;
    for (auto i = group.begin; i < group.end; ++i)
      passes.push_back(reading_.pass(texts_[static_cast<size_t>(i)]));
    const auto each = [&](const std::function<void(size_t at)>& work) {
      run_workers(walk_.how.threads(count), count, [&](int64_t i) {
        leave_if_stopped(walk_.doing);
        work(static_cast<size_t>(i));
      });
    };
    if (peers_.rank() == 0) each([&](size_t at) { states[at] = shelf_.put(model_.embed(passes[at])); });
    for (auto index = own_.begin; index < own_.end; ++index) {
      look_ahead(index + 1);
      through_layer(model_, index, passes, states, walk_);
      if (auto* stream = model_.stream()) stream->let_go(model_.linears_of(index));
    }
    if (peers_.rank() < last_) return;
    each([&](size_t at) {
      Read read;
      read.hidden.push_back(model_.finish(std::exchange(states[at], Tensor()), passes[at]));
      read.passes.push_back(std::move(passes[at]));
      reading_.use(texts_[static_cast<size_t>(group.begin) + at], std::move(read));
    });
  }

  // False where this rank was asked to stop, or rank 0 met something else: then failure_ is set.
  bool computed(const Share& group, std::vector<Tensor>& states) {
    try {
      compute(group, states);
      return true;
    } catch (const Stopped&) { failure_ = std::current_exception(); } catch (...) {
      if (peers_.rank() > 0) throw;
      failure_ = std::current_exception();
    }
    return false;
  }

  // Rank 0 takes what came of a group before it hands on the one that enters as that one leaves: so no two
  // ranks ever wait for each other.
  void lead() {
    for (const auto& group : groups_) {
      std::vector<Tensor> states(static_cast<size_t>(group.size()));
      bool goes_on = computed(group, states);
      if (last_ == 0) {
        if (goes_on) take(group, {});
      } else {
        if (handed_ >= static_cast<size_t>(last_) && !ended_) take_results();
        goes_on = goes_on && !failure_ && !ended_;
        hand_on(goes_on ? &states : nullptr);
      }
      if (failure_ || !goes_on) break;
    }
    while (taken_ < handed_ && !ended_) take_results();
    if (failure_) std::rethrow_exception(failure_);
  }

  // A rank that was asked to stop says so, and then takes what is still handed to it.
  void follow() {
    const auto before = peers_.rank() - 1;
    for (const auto& group : groups_) {
      const bool end = hear(peers_, before) == Word::end;
      std::vector<Tensor> states(end ? 0 : static_cast<size_t>(group.size()));
      for (auto& state : states) {
        state = receive_state(peers_, before);
        state = failure_ ? Tensor() : shelf_.put(state);
      }
      if (!failure_) {
        const bool whole = !end && computed(group, states);
        if (peers_.rank() < last_) hand_on(whole ? &states : nullptr);
        else send_text(peers_, 0, whole ? results_of(group) : "");
      }
      if (end) break;
    }
    if (failure_) std::rethrow_exception(failure_);
  }

  void hand_on(const std::vector<Tensor>* states) {
    const auto next = peers_.rank() + 1;
    ++handed_;
    say(peers_, next, states ? Word::states : Word::end);
    if (!states) return;
    for (const auto& state : *states) send_state(peers_, next, state);
  }

  std::string results_of(const Share& group) const {
    std::vector<std::string> results;
    for (auto i = group.begin; i < group.end; ++i)
      results.push_back(reading_.packed(texts_[static_cast<size_t>(i)]));
    return Parcel().put(results).bytes();
  }

  void take_results() {
    auto bytes = receive_text(peers_, last_);
    ended_ = bytes.empty();
    if (ended_) return;
    take(groups_[taken_++], Parcel(std::move(bytes)).take<std::vector<std::string>>());
  }

  // After a failure, which the others do not know of yet, nothing is done with it.
  void take(const Share& group, std::vector<std::string> results) {
    if (failure_) return;
    try {
      for (auto i = group.begin; i < group.end; ++i) {
        const auto text = texts_[static_cast<size_t>(i)];
        if (last_ > 0) reading_.unpack(text, std::move(results[static_cast<size_t>(i - group.begin)]));
        reading_.there(text);
      }
    } catch (...) { failure_ = std::current_exception(); }
  }

  const DividedReading& reading_;
  const Model& model_;
  Peers& peers_;
  const std::vector<int64_t>& texts_;
  Shelf shelf_;
  const Walk walk_;
  std::vector<Share> groups_;
  Share own_;         // layers
  int64_t last_ = 0;  // rank with layers
  Room room_;         // of the rank that has least
  std::exception_ptr failure_;
  size_t begun_ = 0, handed_ = 0, taken_ = 0;  // groups
  bool ended_ = false;                         // another rank was asked to stop
};

}  // namespace

bool read_divided(const DividedReading& reading, const std::vector<int64_t>& texts, const Abreast& how,
                  std::string_view doing) {
  std::optional<Stage> stage;
  auto& peers = reading.peers;
  if (!done_by_all(peers, [&] { stage.emplace(reading, texts, how, doing); })) return false;
  stage->agree();
  return done_by_all(peers, [&] { stage->cut_texts(); }) && done_by_all(peers, [&] { stage->read(); });
}

bool divides_layers(Peers& peers, const Model& model) { return any_of(peers, model.stream() != nullptr); }

std::vector<Share> agree_on_layers(Peers& peers, const Model& model) {
  const auto mine =
      peers.rank() == 0 ? cut_layers(bytes_of_layers(model), peers.count()) : std::vector<Share>();
  Parcel agreed(broadcast_text(peers, 0, Parcel().put(mine).bytes()));
  return agreed.take<std::vector<Share>>();
}

}  // namespace retort
