// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests need of the kernel and Rust cannot say: the addresses of functions that are not
 * exported, the weight of the kernel's own lists, interrupts off, threads.
 */

#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/irq_work.h>
#include <linux/irqflags.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/seqlock.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <asm/ibt.h>

#include "pid_list.h"

/* mainline.rs */

/* Where the kernel keeps a function that it does not export; NULL if there is none of that name. */
void *pidlist_test_symbol(const char *name);
void *pidlist_test_symbol(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	u8 *address;

	if (register_kprobe(&probe))
		return NULL;
	address = (u8 *)probe.addr;
	unregister_kprobe(&probe);
#ifdef CONFIG_X86_KERNEL_IBT
	/* A probe goes behind the landing pad, a call through a pointer goes to it. */
	if (__is_endbr(*(u32 *)(address - 4)))
		address -= 4;
#endif
	return address;
}

/* Bytes that a list and all its chunks take of their slabs. Nobody else uses it. */
size_t pidlist_test_weigh(struct trace_pid_list *list);
size_t pidlist_test_weigh(struct trace_pid_list *list)
{
	size_t bytes = ksize(list);
	union upper_chunk *upper;
	union lower_chunk *lower;
	int i, j;

	for (upper = list->upper_list; upper; upper = upper->next)
		bytes += ksize(upper);
	for (lower = list->lower_list; lower; lower = lower->next)
		bytes += ksize(lower);
	for (i = 0; i < UPPER1_SIZE; i++) {
		upper = list->upper[i];
		if (!upper)
			continue;
		bytes += ksize(upper);
		for (j = 0; j < UPPER2_SIZE; j++) {
			if (upper->data[j])
				bytes += ksize(upper->data[j]);
		}
	}
	return bytes;
}

/* counter.rs */

unsigned long pidlist_test_irq_save(void);
unsigned long pidlist_test_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}

void pidlist_test_irq_restore(unsigned long flags);
void pidlist_test_irq_restore(unsigned long flags)
{
	local_irq_restore(flags);
}

/* threads.rs */

struct worker {
	void (*work)(const void *shared, unsigned int worker);
	const void *shared;
	unsigned int number;
	struct completion done;
};

static int run_worker(void *data)
{
	struct worker *worker = data;

	worker->work(worker->shared, worker->number);
	kthread_complete_and_exit(&worker->done, 0);
}

/*
 * Runs work(shared, 0) to work(shared, count - 1), each in a thread of its own, the n-th online
 * processor for the n-th thread and so on round; returns when all are through.
 */
int pidlist_test_run(void (*work)(const void *shared, unsigned int worker), const void *shared,
		     unsigned int count);
int pidlist_test_run(void (*work)(const void *shared, unsigned int worker), const void *shared,
		     unsigned int count)
{
	struct worker *workers = kcalloc(count, sizeof(*workers), GFP_KERNEL);
	unsigned int started, i;
	int cpu = -1, error = 0;

	if (!workers)
		return -ENOMEM;
	for (started = 0; started < count; started++) {
		struct worker *worker = &workers[started];
		struct task_struct *task;

		*worker = (struct worker){ .work = work, .shared = shared, .number = started };
		init_completion(&worker->done);
		cpu = cpumask_next_wrap(cpu, cpu_online_mask);
		task = kthread_create_on_cpu(run_worker, worker, cpu, "pidlist-test/%u");
		if (IS_ERR(task)) {
			error = PTR_ERR(task);
			break;
		}
		wake_up_process(task);
	}
	for (i = 0; i < started; i++) {
		/* In turns of a second: nobody is to think that we hang. */
		while (!wait_for_completion_timeout(&workers[i].done, HZ))
			;
	}
	kfree(workers);
	return error;
}

unsigned int pidlist_test_cpus(void);
unsigned int pidlist_test_cpus(void)
{
	return num_online_cpus();
}

/* Lets others run, where the kernel does not see to that by itself. May sleep. */
void pidlist_test_breathe(void);
void pidlist_test_breathe(void)
{
	cond_resched();
}
