// p: teacher, q: student. Each function is the definition in its paper; the slopes are worked out beside it.
#include "distill/divergence.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace retort {
namespace {

float log_of(float x) { return x > 0 ? std::log(x) : kLogZero; }

// KL(p || q) = sum p log(p/q), arXiv:1503.02531. Mean-seeking. q dD/dq = -p.
double forward_kl(const Cells& c, double, std::span<float> slope) {
  double sum = 0;
  for (size_t i = 0; i < c.p.size(); ++i) {
    if (c.p[i] > 0) sum += static_cast<double>(c.p[i]) * (c.log_p[i] - std::max(c.log_q[i], kLogZero));
    slope[i] = -c.p[i];
  }
  return sum;
}

// KL(q || p), MiniLLM arXiv:2306.08543. Mode-seeking. q dD/dq = q (log(q/p) + 1).
double reverse_kl(const Cells& c, double, std::span<float> slope) {
  double sum = 0;
  for (size_t i = 0; i < c.p.size(); ++i) {
    const float ratio = std::max(c.log_q[i], kLogZero) - std::max(c.log_p[i], kLogZero);
    sum += static_cast<double>(c.q[i]) * ratio;
    slope[i] = c.q[i] * (ratio + 1);
  }
  return sum;
}

// Generalized Jensen-Shannon, GKD arXiv:2306.13649 eq. 1: b KL(p || m) + (1 - b) KL(q || m), m = b p + (1 -
// b) q. dD/dq = (1 - b) log(q/m); the terms of dm cancel.
double jensen_shannon(const Cells& c, double beta, std::span<float> slope) {
  const auto b = static_cast<float>(beta);
  double sum = 0;
  for (size_t i = 0; i < c.p.size(); ++i) {
    const float log_m = log_of(b * c.p[i] + (1 - b) * c.q[i]), ratio = c.q[i] > 0 ? c.log_q[i] - log_m : 0;
    if (c.p[i] > 0) sum += b * static_cast<double>(c.p[i]) * (c.log_p[i] - log_m);
    sum += (1 - b) * static_cast<double>(c.q[i]) * ratio;
    slope[i] = (1 - b) * c.q[i] * ratio;
  }
  return sum;
}

// DistiLLM arXiv:2402.03898 eq. 3: KL(p || m), m = a p + (1 - a) q. q dD/dq = -(1 - a) p q / m.
double skewed_kl(const Cells& c, double alpha, std::span<float> slope) {
  const auto a = static_cast<float>(alpha);
  double sum = 0;
  for (size_t i = 0; i < c.p.size(); ++i) {
    const float m = a * c.p[i] + (1 - a) * c.q[i];
    if (c.p[i] > 0) sum += static_cast<double>(c.p[i]) * (c.log_p[i] - log_of(m));
    slope[i] = m > 0 ? -(1 - a) * c.p[i] * c.q[i] / m : 0;
  }
  return sum;
}

// The same the other way: KL(q || m), m = a q + (1 - a) p. dD/dq = log(q/m) + 1 - a q / m.
double skewed_reverse_kl(const Cells& c, double alpha, std::span<float> slope) {
  const auto a = static_cast<float>(alpha);
  double sum = 0;
  for (size_t i = 0; i < c.p.size(); ++i) {
    slope[i] = 0;
    if (!(c.q[i] > 0)) continue;
    const float m = a * c.q[i] + (1 - a) * c.p[i], ratio = c.log_q[i] - log_of(m);
    sum += static_cast<double>(c.q[i]) * ratio;
    slope[i] = c.q[i] * (ratio + 1 - a * c.q[i] / m);
  }
  return sum;
}

// Half the sum of |p - q|, f-DISTILL arXiv:2307.15190.
double total_variation(const Cells& c, double, std::span<float> slope) {
  double sum = 0;
  for (size_t i = 0; i < c.p.size(); ++i) {
    const float gap = c.q[i] - c.p[i];
    sum += 0.5 * std::abs(gap);
    slope[i] = gap == 0 ? 0 : std::copysign(0.5f * c.q[i], gap);
  }
  return sum;
}

// AKL, arXiv:2404.02657 section 4: the teacher's head (its largest tokens that hold `mu` of the mass) weighs
// the forward KL by the gap there, the tail the reverse KL by the gap there; the two weights sum to 1 and
// count as constants.
double adaptive_kl(const Cells& c, double mu, std::span<float> slope) {
  std::vector<size_t> order(c.p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return c.p[a] > c.p[b]; });
  double mass = 0, head = 0, tail = 0;
  for (const auto i : order) {
    (mass < mu ? head : tail) += std::abs(static_cast<double>(c.p[i]) - c.q[i]);
    mass += c.p[i];
  }
  const double share = head + tail > 0 ? head / (head + tail) : 0.5;
  std::vector<float> reverse(slope.size());
  const double nats = share * forward_kl(c, 0, slope) + (1 - share) * reverse_kl(c, 0, reverse);
  for (size_t i = 0; i < slope.size(); ++i)
    slope[i] = static_cast<float>(share * slope[i] + (1 - share) * reverse[i]);
  return nats;
}

}  // namespace

const std::vector<Divergence>& divergences() {
  static const std::vector<Divergence> table = {
      {"forward_kl", "KL(teacher || student), arXiv:1503.02531", forward_kl, 0},
      {"reverse_kl", "KL(student || teacher), arXiv:2306.08543", reverse_kl, 0},
      {"jensen_shannon", "generalized Jensen-Shannon with the teacher's share `parameter`, arXiv:2306.13649",
       jensen_shannon, 0.5},
      {"skewed_kl", "KL(teacher || a teacher + (1 - a) student), a = `parameter`, arXiv:2402.03898",
       skewed_kl, 0.1},
      {"skewed_reverse_kl", "KL(student || a student + (1 - a) teacher)", skewed_reverse_kl, 0.1},
      {"total_variation", "half the L1 distance, arXiv:2307.15190", total_variation, 0},
      {"adaptive_kl",
       "forward and reverse KL weighted by the gaps in head and tail, the head holding `parameter` of the "
       "teacher's mass, arXiv:2404.02657",
       adaptive_kl, 0.5},
  };
  return table;
}

std::vector<std::string> divergence_names() {
  std::vector<std::string> names;
  for (const auto& row : divergences()) names.emplace_back(row.name);
  return names;
}

const Divergence& find_divergence(std::string_view name) {
  for (const auto& row : divergences())
    if (row.name == name) return row;
  throw std::logic_error("no divergence of that name");
}

double measure(const Divergence& divergence, const Cells& cells, double parameter,
               std::span<float> gradient) {
  const double nats = divergence.measure(cells, parameter, gradient);
  const auto sum = static_cast<float>(std::accumulate(gradient.begin(), gradient.end(), 0.0));
  for (size_t i = 0; i < gradient.size(); ++i) gradient[i] -= cells.q[i] * sum;
  return nats;
}

}  // namespace retort
