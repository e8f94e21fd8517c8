/*
 * A long line between two network namespaces: a TUN device in each, and between them one-way delay, jitter, loss and a rate limit, in
 * each direction, on every IP packet. For kernels that have no netem. bench/wan.ts compiles and runs it; it ends when it is killed.
 *
 * usage: linkem NAMESPACE_A DEVICE_A NAMESPACE_B DEVICE_B DELAY_MS JITTER_MS LOSS_PPM RATE_MBIT SEED
 * Prints "ready" once both devices exist. A rate of 0 is no limit.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define PACKET_BYTES_MAX 2048
#define QUEUE_PACKETS 65536
#define PACKETS_PER_TURN 256
#define SECOND_NS 1000000000ull
/* Packets that would wait longer than this before the narrow place are dropped: the buffer of a common router. */
#define BUFFER_NS 200000000ull

struct packet {
  uint64_t due_ns;
  uint16_t length;
  uint8_t bytes[PACKET_BYTES_MAX];
};

/* One way. Packets queue[head % QUEUE_PACKETS] to queue[tail % QUEUE_PACKETS] are on the line, in order of arrival. */
struct direction {
  int in, out;
  struct packet *queue;
  unsigned head, tail;
  uint64_t busy_until_ns; /* when the narrow place has passed on all that came so far */
  uint64_t last_due_ns;   /* no packet overtakes another */
};

struct line {
  uint64_t delay_ns, jitter_ns, loss_ppm;
  double bytes_per_ns;
};

static uint64_t random_state;

static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* Makes a TUN device inside a namespace; the descriptor stays usable from outside of it. */
static int open_device(const char *namespace, const char *device) {
  char path[128];
  snprintf(path, sizeof path, "/var/run/netns/%s", namespace);
  int room = open(path, O_RDONLY);
  if (room < 0 || setns(room, CLONE_NEWNET) < 0) {
    perror(path);
    exit(1);
  }
  close(room);
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  struct ifreq request;
  memset(&request, 0, sizeof request);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0) {
    perror(device);
    exit(1);
  }
  return fd;
}

/* Takes what the device has, and gives each packet the time at which it comes out at the other end. */
static void take(struct direction *way, const struct line *line, uint64_t now) {
  for (int i = 0; i < PACKETS_PER_TURN && way->tail - way->head < QUEUE_PACKETS - 1; i++) {
    struct packet *packet = &way->queue[way->tail % QUEUE_PACKETS];
    ssize_t length = read(way->in, packet->bytes, PACKET_BYTES_MAX);
    if (length <= 0) return;
    if (line->loss_ppm && next_random() % 1000000 < line->loss_ppm) continue;
    if (way->busy_until_ns < now) way->busy_until_ns = now;
    if (line->bytes_per_ns > 0) {
      if (way->busy_until_ns - now > BUFFER_NS) continue;
      way->busy_until_ns += (uint64_t)((double)length / line->bytes_per_ns);
    }
    packet->length = (uint16_t)length;
    packet->due_ns = way->busy_until_ns + line->delay_ns + (line->jitter_ns ? next_random() % line->jitter_ns : 0);
    if (packet->due_ns < way->last_due_ns) packet->due_ns = way->last_due_ns;
    way->last_due_ns = packet->due_ns;
    way->tail++;
  }
}

static void give(struct direction *way, uint64_t now) {
  for (; way->head != way->tail; way->head++) {
    struct packet *packet = &way->queue[way->head % QUEUE_PACKETS];
    if (packet->due_ns > now) return;
    if (write(way->out, packet->bytes, packet->length) < 0) continue; /* the device is gone or full: a lost packet */
  }
}

/* Wakes poll when the first packet of either way is due. */
static void set_timer(int timer, const struct direction ways[2]) {
  uint64_t next = 0;
  for (int i = 0; i < 2; i++) {
    if (ways[i].head == ways[i].tail) continue;
    uint64_t due = ways[i].queue[ways[i].head % QUEUE_PACKETS].due_ns;
    if (next == 0 || due < next) next = due;
  }
  struct itimerspec when = {{0, 0}, {(time_t)(next / SECOND_NS), (long)(next % SECOND_NS)}};
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int main(int count, char **arguments) {
  if (count != 10) {
    fprintf(stderr, "linkem: nine arguments, not %d\n", count - 1);
    return 2;
  }
  int a = open_device(arguments[1], arguments[2]);
  int b = open_device(arguments[3], arguments[4]);
  struct line line = {
      .delay_ns = (uint64_t)(atof(arguments[5]) * 1e6),
      .jitter_ns = (uint64_t)(atof(arguments[6]) * 1e6),
      .loss_ppm = (uint64_t)atol(arguments[7]),
      .bytes_per_ns = atof(arguments[8]) * 1e6 / 8 / 1e9,
  };
  random_state = strtoull(arguments[9], NULL, 10) | 1;
  struct direction ways[2] = {{.in = a, .out = b}, {.in = b, .out = a}};
  for (int i = 0; i < 2; i++) ways[i].queue = calloc(QUEUE_PACKETS, sizeof(struct packet));
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  if (timer < 0 || ways[0].queue == NULL || ways[1].queue == NULL) {
    perror("linkem");
    return 1;
  }
  puts("ready");
  fflush(stdout);
  for (;;) {
    set_timer(timer, ways);
    struct pollfd waits[3] = {{a, POLLIN, 0}, {b, POLLIN, 0}, {timer, POLLIN, 0}};
    poll(waits, 3, -1);
    uint64_t expired;
    if (waits[2].revents && read(timer, &expired, sizeof expired) < 0) continue; /* set anew meanwhile */
    uint64_t now = now_ns();
    for (int i = 0; i < 2; i++) take(&ways[i], &line, now);
    now = now_ns();
    for (int i = 0; i < 2; i++) give(&ways[i], now);
  }
}
